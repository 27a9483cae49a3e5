"""Requests written by Triton's client and read by our codec, and the other way round: nothing may change."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.http._utils import _get_inference_request

from pilothouse_runtime.codecs.oip import (
    HEADER_LENGTH,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.requests import InferRequest, InferResponse, OutputTensor, RequestedOutput
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor

SHAPES = npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, datatype: Datatype, shape: tuple[int, ...], finite: bool, utf8: bool) -> Array:
    """Arrays of one datatype; BYTES are objects of type bytes."""
    if datatype is Datatype.BYTES:
        element = st.text(max_size=5).map(str.encode) if utf8 else st.binary(max_size=5)
        array = np.empty(shape, dtype=np.object_)
        flat = draw(st.lists(element, min_size=array.size, max_size=array.size))
        array.reshape(-1)[:] = flat
        return array
    if datatype is Datatype.BF16:
        return draw(bfloats(shape, finite))
    floats = {"allow_nan": False, "allow_infinity": False} if finite else {}
    elements = npst.from_dtype(datatype.dtype, **floats) if datatype.dtype.kind == "f" else None
    return draw(npst.arrays(datatype.dtype, shape, elements=elements))


def bfloats(shape: tuple[int, ...], finite: bool) -> st.SearchStrategy[Array]:
    """Arrays of BF16, which hypothesis does not know, from any bits; an exponent of ones is NaN or infinity."""
    bits = st.integers(0, 0xFFFF).filter(lambda value: not finite or value & 0x7F80 != 0x7F80)
    return npst.arrays(np.uint16, shape, elements=bits).map(lambda array: array.view(Datatype.BF16.dtype))


@st.composite
def tensors(draw: st.DrawFn) -> tuple[Tensor, bool]:
    """A tensor, and whether it is sent as binary data; FP16 and BF16 have no JSON form in Triton's client."""
    datatype = draw(st.sampled_from(list(Datatype)))
    binary = draw(st.booleans()) or datatype in (Datatype.FP16, Datatype.BF16)
    shape = draw(SHAPES)
    return Tensor("", datatype, draw(arrays(datatype, shape, finite=not binary, utf8=not binary))), binary


def named(drawn: list[tuple[Tensor, bool]]) -> list[tuple[Tensor, bool]]:
    return [
        (Tensor(f"t{index}", tensor.datatype, tensor.array), binary)
        for index, (tensor, binary) in enumerate(drawn)
    ]


def same(left: Array, right: Array) -> None:
    """Arrays are equal bit by bit: -0.0, and the payload of a NaN, included."""
    assert left.shape == right.shape
    assert left.dtype == right.dtype
    if left.dtype == np.object_:
        assert left.tolist() == right.tolist()
    else:
        assert left.tobytes() == right.tobytes()


class Answer:
    """What InferResult wants of an HTTP response."""

    def __init__(self, body: bytes, header_length: int | None) -> None:
        self._body = body
        self._header_length = header_length

    def get(self, name: str) -> str | None:
        return str(self._header_length) if name == HEADER_LENGTH and self._header_length is not None else None

    def read(self, length: int = -1) -> bytes:
        taken, self._body = (self._body, b"") if length == -1 else (self._body[:length], self._body[length:])
        return taken


@given(st.lists(tensors(), min_size=1, max_size=4).map(named), st.booleans())
def test_requests_of_tritons_client(drawn: list[tuple[Tensor, bool]], binary_answer: bool) -> None:
    inputs = []
    for tensor, binary in drawn:
        sent = InferInput(tensor.name, list(tensor.array.shape), tensor.datatype)
        inputs.append(sent.set_data_from_numpy(tensor.array, binary_data=binary))
    outputs = [InferRequestedOutput("y", binary_data=binary_answer)]
    body, length = _get_inference_request(inputs, "id-ü", outputs, 0, False, False, 0, None, None)
    request = decode_request(bytearray(body), None if length is None else str(length))
    assert request.id == "id-ü"
    assert request.outputs == (RequestedOutput("y", binary_answer),)
    assert [tensor.name for tensor in request.inputs] == [tensor.name for tensor, _ in drawn]
    for got, (tensor, _) in zip(request.inputs, drawn, strict=True):
        assert got.datatype is tensor.datatype
        same(got.array, tensor.array)


@given(st.lists(tensors(), max_size=4).map(named))
def test_answers_to_tritons_client(drawn: list[tuple[Tensor, bool]]) -> None:
    outputs = tuple(OutputTensor(tensor, binary) for tensor, binary in drawn)
    pieces, length = encode_response(InferResponse("m", "1", outputs, "7"))
    result = InferResult(Answer(b"".join(pieces), length), verbose=False)
    assert result.get_response()["id"] == "7"
    for tensor, binary in drawn:
        got = result.as_numpy(tensor.name)
        if tensor.datatype is Datatype.BYTES and not binary:
            got = np.array([text.encode() for text in got.reshape(-1)] + [None], dtype=np.object_)[:-1]
            got = got.reshape(tensor.array.shape)
        same(got, tensor.array)


@given(
    st.lists(tensors(), max_size=4).map(named),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=3),
    st.none() | st.text(max_size=3),
    st.booleans(),
)
def test_our_requests_come_back_as_they_were(
    drawn: list[tuple[Tensor, bool]], outputs: list[tuple[str, bool]], name: str | None, binary: bool
) -> None:
    sent = InferRequest(
        tuple(tensor for tensor, _ in drawn),
        tuple(RequestedOutput(*wanted) for wanted in outputs),
        name,
        binary,
    )
    body, length = encode_request(sent)
    got = decode_request(body, str(length))
    assert (got.outputs, got.id, got.binary_outputs) == (sent.outputs, sent.id, sent.binary_outputs)
    assert [tensor.name for tensor in got.inputs] == [tensor.name for tensor in sent.inputs]
    for one, other in zip(got.inputs, sent.inputs, strict=True):
        same(one.array, other.array)


@given(st.lists(tensors(), max_size=4).map(named), st.none() | st.text(max_size=3))
def test_our_answers_come_back_as_they_were(drawn: list[tuple[Tensor, bool]], name: str | None) -> None:
    sent = InferResponse("m", "1", tuple(OutputTensor(tensor, binary) for tensor, binary in drawn), name)
    pieces, length = encode_response(sent)
    got = decode_response(b"".join(pieces), None if length is None else str(length))
    assert (got.model_name, got.model_version, got.id) == ("m", "1", name)
    for one, other in zip(got.outputs, sent.outputs, strict=True):
        assert (one.tensor.name, one.binary) == (other.tensor.name, other.binary)
        same(one.tensor.array, other.tensor.array)


@st.composite
def nested(draw: st.DrawFn) -> tuple[Datatype, Array]:
    """Arrays of what JSON holds exactly."""
    datatype = draw(st.sampled_from([kind for kind in Datatype if kind is not Datatype.BYTES]))
    shape = draw(npst.array_shapes(max_dims=3, max_side=3))
    return datatype, draw(arrays(datatype, shape, finite=True, utf8=True))


@given(nested())
def test_json_data_flat_or_nested(drawn: tuple[Datatype, Array]) -> None:
    datatype, array = drawn
    for data in (array.tolist(), array.reshape(-1).tolist()):
        item = {"name": "x", "datatype": datatype, "shape": array.shape, "data": data}
        same(decode_request(json.dumps({"inputs": [item]}).encode(), None).inputs[0].array, array)


def outcome(body: bytearray, header: str | None) -> Code | None:
    """Return what a body is refused with, as request and as answer, if it is; another error is the test's failure."""
    codes = []
    for decode in (decode_request, decode_response):
        try:
            decode(body, header)
        except RequestError as error:
            codes.append(error.code)
    assert len(set(codes)) <= 1
    return codes[0] if codes else None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "datatype", "shape", "data", "parameters", "binary_data_size", "inputs", "outputs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {"name": st.just("x"), "datatype": st.sampled_from([*Datatype, "FP8"]) | JSON},
                    optional={
                        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
                        "data": JSON,
                        "parameters": JSON,
                    },
                ),
                max_size=2,
            )
            | JSON,
            "outputs": JSON,
            "id": JSON,
            "parameters": JSON,
        },
    ),
    st.binary(max_size=20),
    st.none() | st.integers(-5, 400).map(str) | st.text(max_size=3),
)
def test_no_request_does_worse_than_400(document: Any, tail: bytes, header: str | None) -> None:
    body = json.dumps(document).encode()
    for length in (header, str(len(body))):
        assert outcome(bytearray(body + tail), length) in (None, Code.INVALID_ARGUMENT)


@given(st.binary(max_size=60), st.none() | st.integers(0, 60).map(str))
def test_neither_do_other_bytes(body: bytes, header: str | None) -> None:
    with pytest.raises(RequestError):
        decode_request(bytearray(body), header)
