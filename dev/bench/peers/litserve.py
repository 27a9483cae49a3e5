# mypy: ignore-errors
# (see __init__.py)
"""LitServe, batched as its documentation shows; with its fast queue, which it recommends for high throughput."""

import os
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response

from dev.bench.peers import common

HOW = common.given()
Raw = Annotated[bytes, Body(media_type="application/octet-stream")]


class Json(litserve.LitAPI):
    """Takes what LitServe has parsed from JSON."""

    def setup(self, device):
        self.run = common.load(HOW)

    def decode_request(self, request):
        return np.array(request["inputs"][0]["data"], np.float32)

    def predict(self, x):
        return self.run(x) if HOW.batch > 1 else self.run(x[np.newaxis])[0]

    def encode_response(self, output):
        return {"outputs": [{"data": output.tolist()}]}


class Bytes(Json):
    """Takes the body as it came."""

    def decode_request(self, request: Raw):
        return common.row(request, HOW)

    def encode_response(self, output) -> Response:
        return Response(common.answer(output, HOW), media_type="application/octet-stream")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = str(HOW.threads)
    batching = {"max_batch_size": HOW.batch, "batch_timeout": HOW.wait / 1000} if HOW.batch > 1 else {}
    api = Json(**batching) if HOW.json else Bytes(**batching)
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=HOW.workers,
        timeout=60,
        fast_queue=os.environ["BENCH_FAST_QUEUE"] == "1",
    )
    server.run(
        host="127.0.0.1",
        port=HOW.port,
        num_api_servers=int(os.environ["BENCH_API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
    )
