"""What the codec refuses, in which words; and what memory it shares."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pilothouse_runtime.codecs.oip import decode_request, encode_response
from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.requests import InferResponse, OutputTensor
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor


def request(**item: Any) -> bytes:
    """A request with one input x."""
    return json.dumps({"inputs": [{"name": "x", **item}]}).encode()


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "told"),
    [
        ("FP32", [2], [1], "inputs[0].data: shape [2] needs 2 values, got 1"),
        ("FP32", [2, 2], [[1, 2, 3], [4, 5, 6]], "shape [2, 2] needs 4 values, got 6 as [2, 3]"),
        ("FP32", [4], [[1, 2], [3, 4]], "shape [4] needs 4 values, got 4 as [2, 2]"),
        ("FP32", [3], [[1, 2], [3]], "its nested lists differ in length"),
        ("FP32", [1], ["1"], "FP32 takes numbers only"),
        ("FP32", [1], [None], "FP32 takes numbers only"),
        ("FP32", [1], [{}], "FP32 takes numbers only"),
        ("FP32", [1], [True], "FP32 takes numbers only"),
        ("FP32", [1], [1e39], "out of the range of FP32"),
        ("FP16", [1], [70000], "out of the range of FP16"),
        ("BF16", [1], [3.4e38], "out of the range of BF16"),
        ("BF16", [1], [1e39], "out of the range of BF16"),
        ("BF16", [1], [True], "BF16 takes numbers only"),
        ("INT64", [1], [1.5], "INT64 takes whole numbers only"),
        ("INT64", [1], [1.0], "INT64 takes whole numbers only"),
        ("INT8", [1], [128], "out of the range of INT8"),
        ("UINT8", [1], [-1], "out of the range of UINT8"),
        ("UINT64", [2], [2**64, 1], "UINT64 takes whole numbers only"),
        ("BOOL", [1], [1], "BOOL takes true and false only"),
        ("BYTES", [1], [1], "BYTES takes texts only"),
        ("FP32", [1], 1, "inputs[0].data: must be a list"),
        ("FP32", [1], None, "inputs[0].data: must be a list"),
        ("FP8", [1], [1], "inputs[0].datatype: 'FP8' is none of BOOL, "),
        ("FP32", [-1], [1], "inputs[0].shape: must be a list of sizes"),
        ("FP32", [1.0], [1], "inputs[0].shape: must be a list of sizes"),
        ("FP32", [1] * 65, [1], "inputs[0].shape: "),
        ("FP32", [2**62, 2**62], [1], "needs"),
        ("FP32", [2**62, 0, 2**62], [], "inputs[0].shape: "),
    ],
)
def test_json_data_that_is_refused(datatype: str, shape: list[Any], data: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(request(datatype=datatype, shape=shape, data=data), None)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            b'{"inputs": [{"data": [1, NaN]}]}',
            "(char 25); JSON has no NaN and no infinity: send binary tensors",
        ),
        ('{"id": "ü", "inputs": [-Infinity]}'.encode(), "; JSON has no NaN and no infinity: send binary"),
        (b"{}", "inputs: must be there, a list of tensors, each with name, datatype, shape and data"),
        (
            b'{"instances": [[1]]}',
            "shape and data. Instances are for version 1: POST /v1/models/NAME:predict",
        ),
    ],
)
def test_bodies_that_beginners_send(body: bytes, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(body, None)
    assert told in caught.value.message


def test_deeply_nested_texts() -> None:
    body = request(datatype="BYTES", shape=[1]).replace(
        b"}]}", b', "data": ' + b"[" * 1000 + b"]" * 1000 + b"}]}"
    )
    with pytest.raises(RequestError, match=r"nested too deeply|needs 1 values"):
        decode_request(body, None)


@pytest.mark.parametrize(
    ("item", "tail", "told"),
    [
        (
            {"parameters": {"binary_data_size": 7}},
            b"1234567",
            "inputs[0]: FP32 [2] needs 8 bytes of data, got 7",
        ),
        (
            {"parameters": {"binary_data_size": 8}},
            b"1234567",
            "8 bytes are announced, 7 are left in the body",
        ),
        (
            {"parameters": {"binary_data_size": 8}},
            b"123456789",
            "the body has 1 bytes that belong to no input",
        ),
        ({"parameters": {"binary_data_size": -1}}, b"", "binary_data_size: must be a number of bytes"),
        (
            {"parameters": {"binary_data_size": 8}, "data": [1, 2]},
            b"12345678",
            "has both data and binary_data_size",
        ),
        (
            {"parameters": {"shared_memory_region": "r"}},
            b"",
            "shared_memory_region: this server has no such extension",
        ),
        ({"parameters": []}, b"", "inputs[0].parameters: must be an object"),
        (
            {"datatype": "BYTES", "parameters": {"binary_data_size": 5}},
            b"\x02\0\0\0a",
            "element 0 of its BYTES data ends beyond",
        ),
        (
            {"datatype": "BYTES", "parameters": {"binary_data_size": 5}},
            b"\x01\0\0\0a",
            "its shape needs 2 BYTES elements, got 1",
        ),
        (
            {"datatype": "BYTES", "parameters": {"binary_data_size": 2}},
            b"\0\0",
            "element 0 of its BYTES data ends beyond",
        ),
    ],
)
def test_binary_data_that_is_refused(item: dict[str, Any], tail: bytes, told: str) -> None:
    head = request(**{"datatype": "FP32", "shape": [2], **item})
    with pytest.raises(RequestError) as caught:
        decode_request(head + tail, str(len(head)))
    assert told in caught.value.message


def test_binary_data_without_its_header() -> None:
    body = request(datatype="FP32", shape=[1], parameters={"binary_data_size": 4})
    with pytest.raises(RequestError, match="there is no Inference-Header-Content-Length header"):
        decode_request(body, None)


@pytest.mark.parametrize("header", ["-1", "", "1e3", "²", "1000"])
def test_header_lengths_that_are_none(header: str) -> None:
    with pytest.raises(RequestError, match="must be a number of bytes, at most the body's 14"):
        decode_request(b'{"inputs": []}', header)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"inputs": {}}, "inputs: must be a list"),
        ({"inputs": [5]}, "inputs[0]: must be an object with a name"),
        ({"inputs": [], "id": 5}, "id: must be a text"),
        ({"inputs": [], "outputs": {}}, "outputs: must be a list"),
        ({"inputs": [], "outputs": [{}]}, "outputs[0]: must be an object with a name"),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            "outputs[0].parameters.binary_data: must be true or false",
        ),
        (
            {"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "classification: this server has no such extension; it has binary_tensor_data",
        ),
        (
            {"inputs": [], "parameters": {"binary_data_output": "yes"}},
            "parameters.binary_data_output: must be true",
        ),
    ],
)
def test_documents_that_are_refused(document: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(json.dumps(document).encode(), None)
    assert told in caught.value.message


def test_how_outputs_are_wanted() -> None:
    wanted = [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}]
    document = {"inputs": [], "outputs": wanted, "parameters": {"binary_data_output": True}}
    decoded = decode_request(json.dumps(document).encode(), None)
    assert [(output.name, output.binary) for output in decoded.outputs] == [("a", True), ("b", False)]
    assert decoded.binary_outputs


def test_aligned_binary_data_is_a_writable_view() -> None:
    head = request(datatype="FP32", shape=[2], parameters={"binary_data_size": 8})
    body = bytearray(head + b" " * (-len(head) % 8) + np.array([1, 2], np.float32).tobytes())
    array = decode_request(body, str(len(body) - 8)).inputs[0].array
    assert array.flags.writeable
    body[-4:] = np.array([5], np.float32).tobytes()
    assert array.tolist() == [1, 5]


def test_data_off_its_alignment_is_moved() -> None:
    head = request(datatype="FP64", shape=[1], parameters={"binary_data_size": 8})
    for padding in range(8):
        body = bytearray(head + b" " * padding + np.array([0.5]).tobytes())
        array = decode_request(body, str(len(body) - 8)).inputs[0].array
        assert array.flags.aligned
        assert array.tolist() == [0.5]


def test_true_is_any_byte_but_zero() -> None:
    head = request(datatype="BOOL", shape=[3], parameters={"binary_data_size": 3})
    assert decode_request(head + b"\0\1\2", str(len(head))).inputs[0].array.tolist() == [False, True, True]


def encoded(array: Array, datatype: Datatype) -> Any:
    pieces, length = encode_response(
        InferResponse("m", "1", (OutputTensor(Tensor("y", datatype, array), False),))
    )
    assert length is None
    return json.loads(b"".join(pieces))["outputs"][0]["data"]


def test_what_json_cannot_hold() -> None:
    assert encoded(np.array([1, np.nan, np.inf], np.float32), Datatype.FP32) == [1, None, None]
    with pytest.raises(
        RequestError, match=r"output 'y': holds bytes that are not UTF-8; ask for it with binary_data"
    ):
        encoded(np.array([b"\xff"], dtype=np.object_), Datatype.BYTES)


def test_arrays_that_are_not_in_row_major_order() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3).T
    assert encoded(array, Datatype.INT64) == [0, 3, 1, 4, 2, 5]
    assert binary(array, Datatype.INT64) == array.tobytes()
    large = np.arange(1 << 14, dtype=np.int64).reshape(2, -1).T
    assert binary(large, Datatype.INT64) == large.tobytes()


def binary(array: Array, datatype: Datatype) -> bytes:
    """Return what follows the JSON of an answer."""
    pieces, length = encode_response(
        InferResponse("m", "1", (OutputTensor(Tensor("y", datatype, array), True),))
    )
    return b"".join(pieces)[length:]


def test_large_outputs_are_not_copied() -> None:
    array = np.zeros((64, 256), Datatype.BF16.dtype)
    pieces, _ = encode_response(
        InferResponse("m", "1", (OutputTensor(Tensor("y", Datatype.BF16, array), True),))
    )
    array[0, 0] = 1
    assert bytes(pieces[1][:2]) == array[:1, :1].tobytes()


def test_bf16_as_json_and_back() -> None:
    values = [1.0, -0.0, 0.10009765625, 3.3895313892515355e38, 9.183549615799121e-41]  # all of them exact
    body = request(datatype="BF16", shape=[5], data=values)
    array = decode_request(body, None).inputs[0].array
    assert (array.dtype, array.astype(float).tolist()) == (Datatype.BF16.dtype, values)
    answer = encoded(array, Datatype.BF16)  # the shortest numbers that are these as FP32
    assert np.array_equal(np.array(answer, np.float32), array.astype(np.float32))
    assert encoded(np.array([np.nan, np.inf], Datatype.BF16.dtype), Datatype.BF16) == [None, None]
