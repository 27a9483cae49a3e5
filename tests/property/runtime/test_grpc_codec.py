"""Messages written by Triton's client and read by our codec, and the other way round; and messages that are broken."""

from __future__ import annotations

import asyncio
from typing import Any, Never

from hypothesis import example, given
from hypothesis import strategies as st
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult, service_pb2
from tritonclient.grpc._utils import _get_inference_request

from pilothouse_runtime.codecs.grpc_contents import from_contents, has_contents, to_contents
from pilothouse_runtime.codecs.grpc_messages import decode_infer, encode_infer, parse_infer
from pilothouse_runtime.core.predictor import Job, ModelDescription
from pilothouse_runtime.core.requests import InferResponse, OutputTensor, RequestedOutput
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.grpc_infer import ModelInfer
from pilothouse_runtime.serve.http.server import HttpLimits, HttpServer
from pilothouse_runtime.serve.metrics import Metrics
from tests.property.runtime.test_oip_codec import SHAPES, arrays, same


@st.composite
def tensors(draw: st.DrawFn, typed: bool) -> list[Tensor]:
    """Tensors of all datatypes, or of those that have typed contents."""
    kinds = [datatype for datatype in Datatype if has_contents(datatype) or not typed]
    return [
        Tensor(f"t{index}", datatype, draw(arrays(datatype, draw(SHAPES), finite=False, utf8=False)))
        for index, datatype in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=4)))
    ]


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Tensor], bool, Any]:
    """Tensors, whether they go as raw bytes, and the message that carries them."""
    raw = draw(st.booleans())
    sent = draw(tensors(typed=not raw))
    inputs = []
    for tensor in sent:
        given_input = InferInput(tensor.name, list(tensor.array.shape), tensor.datatype)
        inputs.append(given_input.set_data_from_numpy(tensor.array))
    outputs = [InferRequestedOutput("y")]
    # An unknown or meaningless parameter changes nothing.
    message = _get_inference_request(
        "m", inputs, "1", "id-ü", outputs, 0, False, False, 0, 2_000_000, {"a": "b"}
    )
    if not raw:
        del message.raw_input_contents[:]
        for item, tensor in zip(message.inputs, sent, strict=True):
            to_contents(item.contents, tensor.datatype, tensor.array)
    return sent, raw, message


@given(requests())
def test_requests_of_tritons_client(drawn: tuple[list[Tensor], bool, Any]) -> None:
    sent, raw, message = drawn
    request = decode_infer(parse_infer(message.SerializeToString()))
    assert (request.id, request.timeout) == ("id-ü", 2.0)
    assert request.outputs == (RequestedOutput("y", raw or not sent),)
    assert [tensor.name for tensor in request.inputs] == [tensor.name for tensor in sent]
    for got, tensor in zip(request.inputs, sent, strict=True):
        assert got.datatype is tensor.datatype
        same(got.array, tensor.array)


@given(tensors(typed=False))
def test_answers_to_tritons_client(given_tensors: list[Tensor]) -> None:
    body = encode_infer(InferResponse("m", "1", tuple(OutputTensor(t, True) for t in given_tensors), "7"))
    result = InferResult(service_pb2.ModelInferResponse.FromString(body))
    assert result.get_response().id == "7"
    for tensor in given_tensors:
        same(result.as_numpy(tensor.name), tensor.array)


@given(tensors(typed=True))
def test_answers_with_typed_contents(given_tensors: list[Tensor]) -> None:
    body = encode_infer(InferResponse("m", "1", tuple(OutputTensor(t, False) for t in given_tensors)))
    message = service_pb2.ModelInferResponse.FromString(body)
    assert not message.raw_output_contents
    for output, tensor in zip(message.outputs, given_tensors, strict=True):
        shape = tensor.array.shape
        assert (output.name, output.datatype, tuple(output.shape)) == (tensor.name, tensor.datatype, shape)
        same(from_contents("", tensor.datatype, shape, output.contents), tensor.array)


class Echo:
    """A model without a signature that gives back what it gets."""

    description = ModelDescription("played", "none", None)
    waiting = 0

    def submit(self, job: Job) -> None:
        job.reply([Tensor(t.name, t.datatype, t.array) for t in job.inputs])

    def cancel(self, job: Job) -> None:
        raise AssertionError("nobody leaves here")


class AbortedError(Exception):
    """What a context ends a call with."""


class Context:
    """A call of one message, as gRPC would bring it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.status = ""

    def peer(self) -> str:
        return "ipv6:%5B::1%5D:1"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> None:
        return None

    async def read(self) -> bytes:
        return self._body

    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> Never:
        self.status = code.name
        assert details
        raise AbortedError


def asked(body: bytes) -> tuple[str, list[Call], int]:
    """Return the status that a message is answered with, the calls that ended, and how many did not."""
    ended: list[Call] = []
    settings = read_settings({"PILOTHOUSE_MODEL_NAME": "m", "PILOTHOUSE_MODEL_URI": "file:///m"})
    metrics = Metrics(readiness := Readiness())
    plane = DataPlane(settings, readiness, metrics, [lambda call, now: ended.append(call)])
    plane.attach(Echo())
    context: Any = Context(body)
    bodies = HttpServer(lambda exchange: exchange.refused, HttpLimits(1 << 20, 1 << 20, 0))
    infer = ModelInfer(plane, bodies, 1 << 20, 10, lambda: 0.0)
    try:
        asyncio.run(infer.handle(None, context))
    except AbortedError:
        return context.status, ended, metrics.in_flight
    finally:
        assert bodies.body_bytes == 0
    return "OK", ended, metrics.in_flight


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message in which bytes were changed, left out or doubled."""
    body = bytearray(draw(requests())[2].SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body) - 1)) if body else 0
        match draw(st.sampled_from(["change", "cut", "double", "end"])):
            case "change":
                body[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del body[at : at + draw(st.integers(1, 8))]
            case "double":
                body[at:at] = body[at : at + draw(st.integers(1, 8))]
            case _:
                del body[at:]
    return bytes(body)


@given(st.binary(max_size=64) | mutated())
@example(b"")
@example(b"\x0a\x01m")
def test_broken_messages_are_the_clients_fault(body: bytes) -> None:
    status, ended, open_calls = asked(body)
    assert status in ("OK", "INVALID_ARGUMENT", "NOT_FOUND")
    assert open_calls == 0
    assert [call.code for call in ended] == [{"OK": 200, "INVALID_ARGUMENT": 400, "NOT_FOUND": 404}[status]]
    assert ended[0].received == len(body)


@given(requests())
def test_whole_messages_are_answered(drawn: tuple[list[Tensor], bool, Any]) -> None:
    sent, _, message = drawn
    del message.outputs[:]
    status, ended, _ = asked(message.SerializeToString())
    assert status == "OK"
    assert ended[0].sent > 0
    assert ended[0].job is not None
    for got, tensor in zip(ended[0].job.inputs, sent, strict=True):
        same(got.array, tensor.array)
