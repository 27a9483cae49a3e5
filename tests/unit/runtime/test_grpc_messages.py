"""What the gRPC codec refuses, in which words, and where an answer has its data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as triton

from pilothouse_runtime.codecs.grpc_messages import decode_infer, encode_infer, parse_infer
from pilothouse_runtime.codecs.grpc_schema import POOL
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.requests import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    choose_outputs,
)
from pilothouse_runtime.core.tensors import Datatype, Tensor

MESSAGES = [
    f"{name}{kind}"
    for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
    for kind in ("Request", "Response")
]


def decode(**fields: Any) -> InferRequest:
    return decode_infer(parse_infer(triton.ModelInferRequest(**fields).SerializeToString()))


def item(datatype: str, shape: list[int], **contents: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape} | ({"contents": contents} if contents else {})


@pytest.mark.parametrize("name", [*MESSAGES, "InferParameter", "InferTensorContents"])
def test_messages_are_those_of_triton(name: str) -> None:
    ours = POOL.FindMessageTypeByName(f"inference.{name}")
    same(ours, getattr(triton, name).DESCRIPTOR)


def same(ours: Any, theirs: Any) -> None:
    """All fields that we have are theirs, with number, type and whether they repeat; nested messages too."""
    assert ours.full_name == theirs.full_name
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
    for nested in ours.nested_types:
        same(nested, theirs.nested_types_by_name[nested.name])


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (
            item("FP32", [2], fp32_contents=[1]),
            "inputs[0].contents.fp32_contents: shape [2] needs 2 values, got 1",
        ),
        (
            item("FP32", [2]),
            "inputs[0].contents.fp32_contents: shape [2] needs 2 values, got 0",
        ),
        (
            item("FP32", [1], fp64_contents=[1]),
            "inputs[0].contents: FP32 belongs in fp32_contents, got fp64_contents",
        ),
        (
            item("INT8", [1], int_contents=[1], bytes_contents=[b"1"]),
            "inputs[0].contents: INT8 belongs in int_contents, got bytes_contents",
        ),
        (
            item("FP16", [1], fp32_contents=[1]),
            "inputs[0].contents: FP16 has no typed contents; send it in raw_input_contents",
        ),
        (
            item("BF16", [1]),
            "inputs[0].contents: BF16 has no typed contents; send it in raw_input_contents",
        ),
        (
            item("INT8", [2], int_contents=[1, 128]),
            "inputs[0].contents.int_contents: a value is out of the range of INT8",
        ),
        (
            item("UINT16", [1], uint_contents=[65536]),
            "inputs[0].contents.uint_contents: a value is out of the range of UINT16",
        ),
        (item("FP8", [1]), "inputs[0].datatype: 'FP8' is none of BOOL, "),
        (item("FP32", [-1], fp32_contents=[1]), "inputs[0].shape: must be a list of sizes"),
        (item("FP32", [1] * 65, fp32_contents=[1]), "inputs[0].shape: "),
        (item("FP32", [2**62, 0, 2**62]), "inputs[0].shape: "),
        (
            item("FP32", [0]) | {"parameters": {"shared_memory_region": {"string_param": "r"}}},
            "inputs[0].parameters.shared_memory_region: this server has no such extension; it has binary_tensor_data",
        ),
    ],
)
def test_inputs_that_are_refused(tensor: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(inputs=[tensor])
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("inputs", "raw", "told"),
    [
        (
            [item("FP32", [1]), item("FP32", [1])],
            [b"1234"],
            "raw_input_contents: must have one element for each of the 2 inputs, got 1",
        ),
        ([], [b""], "raw_input_contents: must have one element for each of the 0 inputs, got 1"),
        (
            [item("FP32", [1]), item("FP32", [1], fp32_contents=[1])],
            [b"1234", b"1234"],
            "inputs[1]: has both contents and raw_input_contents; send all inputs in one of them",
        ),
        ([item("FP32", [2])], [b"1234567"], "inputs[0]: FP32 [2] needs 8 bytes of data, got 7"),
        ([item("BYTES", [1])], [b"\x02\0\0\0a"], "inputs[0]: element 0 of its BYTES data ends beyond"),
    ],
)
def test_raw_data_that_is_refused(inputs: list[dict[str, Any]], raw: list[bytes], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(inputs=inputs, raw_input_contents=raw)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"timeout": {"string_param": "5"}}, "parameters.timeout: must be a number of microseconds"),
        ({"timeout": {"int64_param": -1}}, "parameters.timeout: must be a number of microseconds"),
        ({"binary_data_output": {"int64_param": 1}}, "parameters.binary_data_output: must be true or false"),
        (
            {"classification": {"int64_param": 3}},
            "parameters.classification: this server has no such extension",
        ),
    ],
)
def test_parameters_that_are_refused(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(parameters=parameters)
    assert told in caught.value.message


@pytest.mark.parametrize("choice", ["int64_param", "uint64_param"])
def test_the_parameter_timeout(choice: str) -> None:
    assert decode(parameters={"timeout": {choice: 2_500_000}}).timeout == 2.5
    assert decode(parameters={"timeout": {choice: 0}}).timeout is None


def test_parameters_that_mean_nothing_here() -> None:
    choices = {
        "bool_param": True,
        "int64_param": -1,
        "string_param": "ü",
        "double_param": 0.5,
        "uint64_param": 2**64 - 1,
    }
    assert decode(parameters={name: {name: value} for name, value in choices.items()}) == InferRequest(
        (), binary_outputs=True
    )
    assert decode(parameters={"empty": {}}) == InferRequest((), binary_outputs=True)


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_message(body: bytes) -> None:
    with pytest.raises(RequestError, match=r"the message is no inference\.ModelInferRequest") as caught:
        parse_infer(body)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_elements_sent_one_by_one_and_in_parts() -> None:
    """A writer may pack a list, or not, or send parts of it; and add fields that we do not know."""
    contents = b"\x35\x00\x00\x80\x3f" + b"\x32\x08\x00\x00\x00\x40\x00\x00\x40\x40" + b"\xa2\x06\x01x"
    tensor = triton.ModelInferRequest.InferInputTensor(**item("FP32", [3])).SerializeToString()
    tensor += b"\x2a" + bytes([len(contents)]) + contents
    request = decode_infer(parse_infer(b"\x2a" + bytes([len(tensor)]) + tensor))
    assert request.inputs[0].array.tolist() == [1, 2, 3]


def answered(
    request: InferRequest, datatype: Datatype = Datatype.FP32
) -> tuple[triton.ModelInferResponse, list[str]]:
    """Return the answer to a request for a model with the outputs a and b, and which of them have contents."""
    outputs = [Tensor(name, datatype, np.arange(2).astype(datatype.dtype)) for name in "ab"]
    body = encode_infer(InferResponse("m", "1", choose_outputs(request, outputs), request.id))
    message = triton.ModelInferResponse.FromString(body)
    return message, [output.name for output in message.outputs if output.HasField("contents")]


def test_where_answers_have_their_data() -> None:
    typed = [item("FP32", [1], fp32_contents=[1])]
    message, contents = answered(decode(inputs=typed, id="7"))
    assert (contents, list(message.raw_output_contents), message.id) == (["a", "b"], [], "7")
    assert list(message.outputs[0].contents.fp32_contents) == [0, 1]

    raw = {"inputs": [item("FP32", [1])], "raw_input_contents": [b"1234"]}
    message, contents = answered(decode(**raw))
    assert (contents, list(message.raw_output_contents)) == ([], [np.array([0, 1], "<f4").tobytes()] * 2)

    message, contents = answered(decode(inputs=typed), Datatype.BF16)
    assert (contents, len(message.raw_output_contents)) == ([], 2)


def test_answers_in_the_other_form() -> None:
    typed = [item("FP32", [1], fp32_contents=[1])]
    yes, no = {"bool_param": True}, {"bool_param": False}
    message, contents = answered(decode(inputs=typed, parameters={"binary_data_output": yes}))
    assert (contents, len(message.raw_output_contents)) == ([], 2)
    wanted = [{"name": "b", "parameters": {"binary_data": yes}}, {"name": "a"}]
    request = decode(inputs=typed, outputs=wanted)
    assert request.outputs == (RequestedOutput("b", True), RequestedOutput("a", False))
    message, contents = answered(request)
    assert ([output.name for output in message.outputs], len(message.raw_output_contents)) == (["b", "a"], 2)
    raw = decode(
        inputs=[item("FP32", [1])], raw_input_contents=[b"1234"], parameters={"binary_data_output": no}
    )
    message, contents = answered(raw)
    assert (contents, len(message.raw_output_contents)) == (["a", "b"], 0)


def test_an_answer_without_outputs() -> None:
    assert encode_infer(InferResponse("m", "1", ())) == b"\x0a\x01m\x12\x011"
