"""Triton's own gRPC client, as users have it, against our server and models whose answers are known."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc.aio import insecure_channel
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.contract.runtime.test_metrics import SIGNATURE, Page
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import Sleeper, save_exported, save_mixer, save_torchscript

VALUES = np.array([[1.5, -2.0], [0.25, 4.0], [0.0, 1.0]], dtype=np.float32)
COUNTS = np.array([2, -4, 9_007_199_254_740_993], dtype=np.int64)  # the last is no double

ARRAYS = {
    "BOOL": np.array([True, False]),
    **{
        f"INT{bits}": np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], f"i{bits // 8}")
        for bits in (8, 16, 32, 64)
    },
    **{f"UINT{bits}": np.array([0, 2**bits - 1], f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    "FP16": np.array([0.1, -np.inf], np.float16),
    "BF16": np.array([0.1, 3e38], ml_dtypes.bfloat16),
    "FP32": np.array([0.1, np.nan], np.float32),
    "FP64": np.array([0.1, -0.0]),
}
NOT_TYPED = ("FP16", "BF16")
FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip


class Every(torch.nn.Module):
    """Gives back tensors of all types."""

    def forward(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return copies."""
        return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """The model Mixer, of version 7, and a small limit on requests."""
    folder = tmp_path_factory.mktemp("grpc")
    model = save_mixer(folder / "mixer.pt2")
    with runtime(folder, f"file://{model}", MODEL_VERSION="7", MAX_REQUEST_BYTES="1000000") as process:
        process.wait_ready()
        yield process


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """The model Every."""
    folder = tmp_path_factory.mktemp("every")
    example = {
        name.lower(): torch.from_numpy(array.view("i2")).view(torch.bfloat16)
        if name == "BF16"
        else torch.from_numpy(array)
        for name, array in ARRAYS.items()
    }
    model = save_exported(Every(), folder / "every.pt2", (example,), None)
    with runtime(folder, f"file://{model}") as process:
        process.wait_ready()
        yield process


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """A model that takes the better part of a second for each request."""
    folder = tmp_path_factory.mktemp("slow")
    model = save_torchscript(Sleeper(30_000), folder / "slow.pt", SIGNATURE)
    with runtime(folder, f"file://{model}", DRAIN_DELAY_SECONDS="0", BATCH_MAX_SIZE="1") as process:
        process.wait_ready()
        yield process


def address(process: RuntimeProcess) -> str:
    return f"127.0.0.1:{process.grpc_port}"


@pytest.fixture
def client(server: RuntimeProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address(server)) as client:
        yield client


def tensor(name: str, array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    return triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def tensors() -> list[triton.InferInput]:
    return [tensor("counts", COUNTS, "INT64"), tensor("values", VALUES, "FP32")]  # not the model's order


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "7")
    about = client.get_server_metadata(as_json=True)
    assert (about["name"], about["extensions"]) == ("pilothouse-runtime", ["binary_tensor_data"])
    assert client.get_model_metadata("tiny", as_json=True) == {
        "name": "tiny",
        "versions": ["7"],
        "platform": "pytorch_exported",
        "inputs": [
            {"name": "values", "datatype": "FP32", "shape": ["-1", "2"]},
            {"name": "counts", "datatype": "INT64", "shape": ["-1"]},
        ],
        "outputs": [
            {"name": "scaled", "datatype": "FP32", "shape": ["-1", "2"]},
            {"name": "raised", "datatype": "INT64", "shape": ["-1"]},
        ],
    }


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("names", [None, ["raised", "scaled"], ["raised"]])
def test_infer(
    client: triton.InferenceServerClient, compression: str | None, names: list[str] | None
) -> None:
    outputs = None if names is None else [triton.InferRequestedOutput(name) for name in names]
    result = client.infer(
        "tiny",
        tensors(),
        "7",
        outputs=outputs,
        request_id="17",
        compression_algorithm=compression,
        client_timeout=PATIENCE,
        timeout=round(PATIENCE * 1e6),
        headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        parameters={"purpose": "test", "share": 1, "kept": True},
    )
    np.testing.assert_array_equal(result.as_numpy("raised"), COUNTS + 10)
    if names != ["raised"]:
        scaled = VALUES * COUNTS[:, None].astype(np.float32)
        np.testing.assert_array_equal(result.as_numpy("scaled"), scaled)
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("17", "tiny", "7")
    assert [output.name for output in answer.outputs] == (names or ["scaled", "raised"])


def test_every_datatype(every: RuntimeProcess) -> None:
    with triton.InferenceServerClient(address(every)) as client:
        metadata = client.get_model_metadata("tiny")
        names = {item.datatype: item.name for item in metadata.inputs}
        result = client.infer("tiny", [tensor(names[kind], array, kind) for kind, array in ARRAYS.items()])
        for output in result.get_response().outputs:
            got = result.as_numpy(output.name)
            assert got.dtype == ARRAYS[output.datatype].dtype
            assert got.tobytes() == ARRAYS[output.datatype].tobytes()


def test_every_datatype_that_has_typed_contents(every: RuntimeProcess, server: RuntimeProcess) -> None:
    """One that has none makes the whole answer raw; without such a one the answer is typed as the request is."""
    with grpc.insecure_channel(address(server)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="tiny")
        request.inputs.add(name="values", datatype="FP32", shape=[3, 2]).contents.fp32_contents.extend(
            VALUES.reshape(-1).tolist()
        )
        request.inputs.add(name="counts", datatype="INT64", shape=[3]).contents.int64_contents.extend(
            COUNTS.tolist()
        )
        answer = stub.ModelInfer(request)
        assert not answer.raw_output_contents
        assert list(answer.outputs[1].contents.int64_contents) == (COUNTS + 10).tolist()
        assert len(answer.outputs[0].contents.fp32_contents) == 6
    with grpc.insecure_channel(address(every)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="tiny"))
        request = service_pb2.ModelInferRequest(model_name="tiny")
        for item in metadata.inputs:
            sent = request.inputs.add(name=item.name, datatype=item.datatype, shape=[2])
            if item.datatype not in NOT_TYPED:
                values = ARRAYS[item.datatype].tolist()
                getattr(sent.contents, FIELDS[item.datatype]).extend(values)
        with pytest.raises(grpc.RpcError, match="has no typed contents; send it in raw_input_contents"):
            stub.ModelInfer(request)


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "told"),
    [
        ("values", [3, 3], "FP32", "input 'values': expected shape [-1, 2], got [3, 3]"),
        ("values", [3, 2], "FP64", "input 'values': expected datatype FP32, got FP64"),
        ("valves", [3, 2], "FP32", "no input 'valves'; it takes values FP32 [-1, 2], counts INT64 [-1]"),
    ],
)
def test_tensors_that_do_not_fit(
    client: triton.InferenceServerClient, name: str, shape: list[int], datatype: str, told: str
) -> None:
    bad = tensor(name, np.zeros(shape, np.float64 if datatype == "FP64" else np.float32), datatype)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("tiny", [tensors()[0], bad])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert told in caught.value.message()


def test_other_models_versions_and_methods(client: triton.InferenceServerClient) -> None:
    for model, version in (("large", ""), ("tiny", "8")):
        for ask in (
            lambda model=model, version=version: client.infer(model, tensors(), version),
            lambda model=model, version=version: client.get_model_metadata(model, version),
            lambda model=model, version=version: client.is_model_ready(model, version),
        ):
            with pytest.raises(InferenceServerException) as caught:
                ask()
            assert caught.value.status() == "StatusCode.NOT_FOUND"
    for ask in (
        client.get_model_repository_index,
        client.get_inference_statistics,
        client.get_cuda_shared_memory_status,
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_request_larger_than_the_limit(client: triton.InferenceServerClient, server: RuntimeProcess) -> None:
    large = np.zeros((200_000, 2), np.float32)
    for compression in (None, "gzip"):
        with pytest.raises(InferenceServerException, match="larger than max") as caught:
            client.infer(
                "tiny", [tensors()[0], tensor("values", large, "FP32")], compression_algorithm=compression
            )
        assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert client.infer("tiny", tensors()).as_numpy("raised")[0] == 12  # the same connection goes on
    eventually(lambda: Page(server).codes[413] == 2, "counted")


async def test_many_requests_at_once_get_their_own_answers(server: RuntimeProcess) -> None:
    async def ask(client: triton_aio.InferenceServerClient, number: int) -> int:
        counts, values = np.array([number]), np.ones((1, 2), np.float32)
        inputs = [tensor("values", values, "FP32"), tensor("counts", counts, "INT64")]
        return int((await client.infer("tiny", inputs)).as_numpy("raised")[0])

    async with triton_aio.InferenceServerClient(address(server)) as client:
        assert await client.is_model_ready("tiny", "7")
        answers = await asyncio.gather(*(ask(client, number) for number in range(64)))
    assert answers == list(range(10, 74))


X = np.zeros((1, 3), np.float32)


def test_deadlines(slow: RuntimeProcess) -> None:
    """The client's own, and the parameter that Triton has: microseconds for which a request may take."""
    with triton.InferenceServerClient(address(slow)) as client:
        before = Page(slow).codes[504]
        with pytest.raises(InferenceServerException) as caught:
            client.infer("tiny", [tensor("x", X, "FP32")], client_timeout=0.1)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        eventually(lambda: Page(slow).codes[504] == before + 1, "counted")
        with ThreadPoolExecutor(4) as others:
            busy = [others.submit(client.infer, "tiny", [tensor("x", X, "FP32")]) for _ in range(4)]
            eventually(lambda: Page(slow).in_flight == 4, "busy")
            start = time.monotonic()
            with pytest.raises(InferenceServerException) as caught:
                client.infer("tiny", [tensor("x", X, "FP32")], timeout=50_000)
            assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
            assert time.monotonic() - start > 0.045
            for other in busy:
                assert other.result() is not None
        eventually(lambda: Page(slow).codes[504] == before + 2, "counted")


async def test_cancelling(slow: RuntimeProcess) -> None:
    before = Page(slow).codes[499]
    async with triton_aio.InferenceServerClient(address(slow)) as client:
        asked = asyncio.create_task(client.infer("tiny", [tensor("x", X, "FP32")]))
        await asyncio.to_thread(eventually, lambda: Page(slow).in_flight == 1, "asked")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    eventually(lambda: Page(slow).codes[499] == before + 1, "counted")
    with triton.InferenceServerClient(address(slow)) as client:
        results: queue.Queue[Any] = queue.Queue()
        call = client.async_infer("tiny", [tensor("x", X, "FP32")], lambda result, error: results.put(error))
        eventually(lambda: Page(slow).in_flight == 1, "asked again")
        call.cancel()
        assert results.get(timeout=PATIENCE).status() == "StatusCode.CANCELLED"
    eventually(lambda: Page(slow).codes[499] == before + 2, "counted")
    assert Page(slow).in_flight == 0


async def test_ending_loses_no_call(tmp_path: Path) -> None:
    """Calls that are made while the pod leaves are answered, until there is nobody to call."""
    model = save_torchscript(Sleeper(2000), tmp_path / "sleeper.pt", SIGNATURE)
    request = service_pb2.ModelInferRequest(model_name="tiny", raw_input_contents=[X.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    with runtime(tmp_path, f"file://{model}", DRAIN_DELAY_SECONDS="1") as process:
        process.wait_ready()
        async with insecure_channel(address(process)) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answered, left = 0, ""
            while not left:
                try:
                    await stub.ModelInfer(request)
                except grpc.RpcError as error:
                    left = error.code().name
                else:
                    answered += 1
                if answered == 3:
                    process.terminate()
        assert left == "UNAVAILABLE"
        assert process.wait() == 0
        assert answered > 3
        assert not [line for line in process.lines if line["level"] in ("warning", "error")]
