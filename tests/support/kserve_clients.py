"""Asks a server as KServe's own clients do, and prints what they made of its answers as one JSON object.

Run by the interpreter of KServe's environment, where nothing of this project is, with an HTTP URL and a gRPC address.
The model is Mixer of `tiny_models`, by the name tiny.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

VALUES = np.array([[1.5, -2.0], [0.25, 4.0]], dtype=np.float32)
COUNTS = np.array([2, -4], dtype=np.int64)


def request(binary: bool, outputs: list[RequestedOutput] | None = None, **parameters: Any) -> InferRequest:
    """Return a request with both inputs, as raw bytes or as lists."""
    inputs = []
    for name, array, datatype in (("counts", COUNTS, "INT64"), ("values", VALUES, "FP32")):
        item = InferInput(name, list(array.shape), datatype)
        item.set_data_from_numpy(array, binary_data=binary)
        if not binary:
            item.data = array.reshape(-1).tolist()
        inputs.append(item)
    return InferRequest("tiny", inputs, "17", parameters=parameters or None, request_outputs=outputs)


def told(response: Any) -> dict[str, Any]:
    """Return what KServe's client holds after an answer."""
    return {
        "model": response.model_name,
        "id": response.id,
        "outputs": {
            output.name: [output.datatype, list(output.shape), output.as_numpy().reshape(-1).tolist()]
            for output in response.outputs
        },
    }


async def over_http(url: str) -> dict[str, Any]:
    """Ask in both versions of the protocol over HTTP."""
    found: dict[str, Any] = {}
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    found["live"], found["ready"] = await v2.is_server_live(url), await v2.is_server_ready(url)
    found["model_ready"] = await v2.is_model_ready(url, "tiny")
    found["json"] = told(await v2.infer(url, request(False), "tiny"))
    found["binary"] = told(await v2.infer(url, request(True, binary_data_output=True), "tiny"))
    try:
        await v2.infer(url, request(False), "large")
    except httpx.HTTPStatusError as error:
        found["error"] = [error.response.status_code, str(error)]

    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    found["v1_ready"] = await v1.is_model_ready(url, "tiny")
    rows = [{"values": row.tolist(), "counts": int(count)} for row, count in zip(VALUES, COUNTS, strict=True)]
    found["rows"] = await v1.infer(url, {"instances": rows}, "tiny")
    columns = {"values": VALUES.tolist(), "counts": COUNTS.tolist()}
    found["columns"] = await v1.infer(url, {"inputs": columns}, "tiny")
    try:
        await v1.infer(url, {"instances": [1]}, "tiny")
    except httpx.HTTPStatusError as error:
        found["v1_error"] = [error.response.status_code, str(error)]
    await v1.close()
    await v2.close()
    return found


async def over_grpc(address: str) -> dict[str, Any]:
    """Ask over gRPC."""
    found: dict[str, Any] = {}
    async with InferenceGRPCClient(address) as client:
        found["live"], found["ready"] = await client.is_server_live(), await client.is_server_ready()
        found["model_ready"] = await client.is_model_ready("tiny")
        found["typed"] = told(await client.infer(request(False)))
        found["raw"] = told(await client.infer(request(True)))
        outputs = [RequestedOutput("raised", {"binary_data": True})]
        found["one"] = told(await client.infer(request(False, outputs)))
        other = request(True)
        other.model_name = "large"
        try:
            await client.infer(other)
        except grpc.RpcError as error:
            found["error"] = [error.code().name, error.details()]
    return found


async def main(url: str, address: str) -> None:
    """Ask everything."""
    found = {"http": await over_http(url), "grpc": await over_grpc(address)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
