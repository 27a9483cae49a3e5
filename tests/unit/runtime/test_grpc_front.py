"""The gRPC front on a real port, with a model that is played: each call is opened and closed once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as triton

from pilothouse_runtime.codecs.grpc_schema import message_class
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Job, ModelDescription
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.grpc import GrpcServer
from pilothouse_runtime.serve.http.server import HttpLimits, HttpServer
from pilothouse_runtime.serve.metrics import Metrics

INFER = "/inference.GRPCInferenceService/ModelInfer"
LIMIT = 100_000  # bytes
X = TensorSpec("x", Datatype.FP32, (-1,))


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 10 s")


class Played:
    """A model that gives back what it got, when it is told to."""

    description = ModelDescription("played", "none", Signature((X,), (X,)))
    waiting = 0

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.cancelled: list[Job] = []
        self.refusal: Exception | None = None
        self.at_once = True

    def submit(self, job: Job) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.jobs.append(job)
        if self.at_once:
            job.reply([Tensor("x", Datatype.FP32, job.inputs[0].array)])

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job)


class World:
    """One server, what it was asked, and a channel to it."""

    def __init__(self) -> None:
        self.ended: list[Call] = []
        settings = read_settings(
            {
                "PILOTHOUSE_MODEL_NAME": "m",
                "PILOTHOUSE_MODEL_URI": "file:///m",
                "PILOTHOUSE_MAX_REQUEST_BYTES": str(LIMIT),
            }
        )
        self.model = Played()
        self.readiness = Readiness()
        self.metrics = Metrics(self.readiness)
        self.plane = DataPlane(
            settings, self.readiness, self.metrics, [lambda call, now: self.ended.append(call)]
        )
        self.bodies = HttpServer(lambda exchange: exchange.refused, HttpLimits(LIMIT, 2 * LIMIT, 0))
        self.server = GrpcServer(self.plane, self.readiness, settings, self.bodies, receive_timeout=0.5)
        self.channel: grpc.aio.Channel

    async def infer(self, request: Any = None, **options: Any) -> Any:
        """Return the answer to a request, which may be any bytes."""
        request = asking() if request is None else request
        body = request if isinstance(request, bytes) else request.SerializeToString()
        answer = await self.channel.unary_unary(INFER)(body, **options)
        return triton.ModelInferResponse.FromString(answer)

    async def refused(self, request: Any = None, **options: Any) -> grpc.aio.AioRpcError:
        """Return the error that a request is answered with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.infer(request, **options)
        return caught.value

    async def closed(self, count: int = 1) -> Call:
        """Wait until so many calls have ended, and return the last; none is open, and none ended twice."""
        await eventually(lambda: len(self.ended) >= count)
        await asyncio.sleep(0.02)
        assert len(self.ended) == count
        assert self.metrics.in_flight == 0
        return self.ended[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    port = await world.server.start("127.0.0.1", 0)
    world.plane.attach(world.model)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as world.channel:
        yield world
    await world.server.stop(0)


def asking(count: int = 3, **fields: Any) -> triton.ModelInferRequest:
    data = np.arange(count, dtype="<f4").tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [count]}
    return triton.ModelInferRequest(
        **({"model_name": "m", "inputs": [tensor], "raw_input_contents": [data]} | fields)
    )


async def test_messages_count_among_all_bodies_in_memory(world: World) -> None:
    world.model.at_once = False
    large = asking(20_000)  # 80 kB each, where all may hold 200
    calls = [asyncio.create_task(world.infer(large)) for _ in range(2)]
    await eventually(lambda: len(world.model.jobs) == 2)
    assert world.bodies.body_bytes == 2 * large.ByteSize()
    error = await world.refused(large)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "bytes of other requests are in memory" in str(error.details())
    for job in world.model.jobs:
        job.reply([Tensor("x", Datatype.FP32, job.inputs[0].array)])
    await asyncio.gather(*calls)
    await eventually(lambda: world.bodies.body_bytes == 0)


async def test_one_call(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    metadata = (("traceparent", trace), ("x-request-id", "r1"))
    request = asking(id="7")
    answer = await world.infer(request, metadata=metadata)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "7")
    assert answer.raw_output_contents == request.raw_input_contents
    call = await world.closed()
    assert (call.protocol, call.code, call.path, call.error) == ("grpc", 200, INFER, "")
    assert (call.traceparent, call.request_id) == (trace, "r1")
    assert (call.received, call.sent) == (request.ByteSize(), answer.ByteSize())
    assert call.peer.startswith("127.0.0.1:")
    assert call.deadline is None
    assert call.job is world.model.jobs[0]


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        (b"\xff\xff", "INVALID_ARGUMENT", "the message is no inference.ModelInferRequest: "),
        (asking(model_name="n"), "NOT_FOUND", "there is no model 'n' here; this server has 'm'"),
        (asking(model_version="2"), "NOT_FOUND", "model 'm' has no version '2' here; this server has '1'"),
        (asking(inputs=[]), "INVALID_ARGUMENT", "raw_input_contents: must have one element for each"),
        (asking(inputs=[], raw_input_contents=[]), "INVALID_ARGUMENT", "inputs: 'x' is missing"),
        (asking(outputs=[{"name": "z"}]), "INVALID_ARGUMENT", "outputs: the model has no output 'z'"),
    ],
)
async def test_requests_that_are_wrong(world: World, request_: Any, status: str, told: str) -> None:
    error = await world.refused(request_)
    assert error.code().name == status
    assert told in str(error.details())
    call = await world.closed()
    assert call.code == {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400}[status]
    assert call.error == error.details()
    assert call.job is None


async def test_a_long_and_foreign_message_reaches_the_client(world: World) -> None:
    error = await world.refused(asking(model_name="ü" * 20_000))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert str(error.details()).startswith("there is no model 'üüü")
    assert str(error.details()).endswith("ü…")


async def test_when_to_try_again(world: World) -> None:
    world.model.refusal = RequestError(Code.RESOURCE_EXHAUSTED, "full", retry_after=2)
    error = await world.refused()
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert dict(error.trailing_metadata()) == {"retry-after": "2", "grpc-retry-pushback-ms": "2000"}
    assert (await world.closed()).code == 429


async def test_our_own_fault(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.model.refusal = ZeroDivisionError("a secret")
    error = await world.refused()
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "the server failed on this request; its log says why"
    assert (await world.closed()).code == 500
    assert "a secret" in caplog.text


async def test_a_client_that_leaves(world: World) -> None:
    world.model.at_once = False
    asked = world.channel.unary_unary(INFER)(asking().SerializeToString())
    await eventually(lambda: bool(world.model.jobs))
    asked.cancel()
    call = await world.closed()
    assert (call.code, call.error) == (Code.CANCELLED, "the client left")
    assert world.model.cancelled == [call.job]
    assert call.job is not None
    assert call.job.cancelled


async def test_the_deadline_of_a_client(world: World) -> None:
    world.model.at_once = False
    before = time.monotonic()
    error = await world.refused(timeout=0.2)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    call = await world.closed()
    assert call.code == Code.DEADLINE_EXCEEDED
    assert world.model.cancelled == [call.job]
    assert call.deadline is not None
    assert 0 < call.deadline - before < 0.3


async def test_the_parameter_timeout_is_a_deadline(world: World) -> None:
    await world.infer(asking(parameters={"timeout": {"int64_param": 3_000_000}}), timeout=60)
    call = await world.closed()
    assert call.deadline == pytest.approx(call.started + 3)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests(world: World, compression: grpc.Compression) -> None:
    answer = await world.infer(asking(10_000), compression=compression)
    assert answer.outputs[0].shape == [10_000]
    assert (await world.closed()).received > 40_000


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_messages_that_are_too_large(world: World, compression: grpc.Compression) -> None:
    error = await world.refused(bytes(2 * LIMIT), compression=compression)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(error.details())
    assert (await world.closed()).code == Code.TOO_LARGE
    await world.infer()
    await world.closed(2)


async def test_calls_whose_message_never_comes(world: World) -> None:
    nothing = world.channel.stream_unary(INFER)()
    await nothing.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await nothing
    assert caught.value.details() == "the call has no message; send one ModelInferRequest"
    assert (await world.closed()).code == Code.INVALID_ARGUMENT

    left = world.channel.stream_unary(INFER)()
    await eventually(lambda: world.metrics.in_flight == 1)
    left.cancel()
    assert (await world.closed(2)).code == Code.CANCELLED

    silent = world.channel.stream_unary(INFER)()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await silent
    assert caught.value.details() == "the request took too long to come; send it again"
    assert (await world.closed(3)).code == Code.REQUEST_TIMEOUT


async def test_before_the_model_is_there() -> None:
    world = World()
    port = await world.server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as world.channel:
        error = await world.refused()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "not loaded yet" in str(error.details())
        assert dict(error.trailing_metadata())["retry-after"] == "5"
    assert (await world.closed()).code == 503
    await world.server.stop(0)


async def test_what_is_in_flight_is_finished(world: World) -> None:
    world.model.at_once = False
    asked = world.channel.unary_unary(INFER)(asking().SerializeToString())
    await eventually(lambda: bool(world.model.jobs))
    stopping = asyncio.create_task(world.server.stop(10))
    await asyncio.sleep(0.1)
    job = world.model.jobs[0]
    job.reply([Tensor("x", Datatype.FP32, job.inputs[0].array)])
    await asked
    async with asyncio.timeout(5):
        await stopping
    assert (await world.closed()).code == 200
    assert (await world.refused()).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_port_that_is_taken(world: World) -> None:
    other = World()
    port = await other.server.start("127.0.0.1", 0)
    with pytest.raises(OSError, match=f"127.0.0.1:{port} is taken"):
        await world.server.start("127.0.0.1", port)
    await other.server.stop(0)


async def test_methods_that_are_not_here(world: World) -> None:
    for path in ("/inference.GRPCInferenceService/ModelConfig", "/other.Service/Call"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.channel.unary_unary(path)(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not world.ended


async def test_health(world: World) -> None:
    request, response = (
        message_class(f"grpc.health.v1.HealthCheck{kind}") for kind in ("Request", "Response")
    )
    check = world.channel.unary_unary("/grpc.health.v1.Health/Check")
    watch = world.channel.unary_stream("/grpc.health.v1.Health/Watch")
    for service in ("", "inference.GRPCInferenceService"):
        answer = response.FromString(await check(request(service=service).SerializeToString()))
        assert answer.status == response.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(request(service="other").SerializeToString())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch(b"\xff").read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    watched, unknown = watch(b""), watch(request(service="other").SerializeToString())
    assert response.FromString(await watched.read()).status == response.SERVING
    assert response.FromString(await unknown.read()).status == response.SERVICE_UNKNOWN
    world.readiness.enter(Phase.DRAINING)
    assert response.FromString(await watched.read()).status == response.NOT_SERVING
    async with asyncio.timeout(5):
        await world.server.stop(10)  # watchers do not keep it
    assert await watched.read() is grpc.aio.EOF
    assert await unknown.read() is grpc.aio.EOF
