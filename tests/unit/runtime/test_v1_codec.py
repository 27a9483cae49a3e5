"""Version 1 of the protocol: what requests mean, what is refused and in which words, and how answers look."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pilothouse_runtime.codecs.v1 import decode_predict, encode_predict
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.requests import InferResponse, OutputTensor
from pilothouse_runtime.core.tensors import Array, Datatype, Signature, Tensor, TensorSpec

X = TensorSpec("x", Datatype.FP32, (-1, 2))
N = TensorSpec("n", Datatype.INT64, (-1,))
ONE, TWO = Signature((X,), (X,)), Signature((X, N), (X, N))
TEXT = Signature((TensorSpec("t", Datatype.BYTES, (-1,)),), ())


def decode(document: Any, signature: Signature | None = ONE) -> tuple[dict[str, Array], int | None]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    request, rows = decode_predict(body, signature)
    for tensor in request.inputs:
        assert tensor.array.dtype == tensor.datatype.dtype
    return {tensor.name: tensor.array for tensor in request.inputs}, rows


def encode(rows: int | None, **arrays: Array) -> Any:
    outputs = tuple(
        OutputTensor(Tensor(name, Datatype.BYTES if array.dtype == object else Datatype.FP32, array), False)
        for name, array in arrays.items()
    )
    return json.loads(encode_predict(InferResponse("m", "1", outputs), rows))


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"instances": [[1, 2], [3, 4.5]]}, 2),
        ({"instances": [{"x": [1, 2]}, {"x": [3, 4.5]}]}, 2),
        ({"inputs": [[1, 2], [3, 4.5]]}, None),
        ({"inputs": {"x": [[1, 2], [3, 4.5]]}}, None),
        ({"signature_name": "serving_default", "inputs": [[1, 2], [3, 4.5]]}, None),
        ({"signature_name": "", "instances": [[1, 2], [3, 4.5]], "other": 1}, 2),
    ],
)
def test_one_input(document: Any, rows: int | None) -> None:
    arrays, got_rows = decode(document)
    assert got_rows == rows
    assert arrays["x"].tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"instances": [{"n": 7, "x": [1, 2]}, {"x": [3, 4], "n": 8}]}, 2),
        ({"inputs": {"n": [7, 8], "x": [[1, 2], [3, 4]]}}, None),
    ],
)
def test_two_inputs(document: Any, rows: int | None) -> None:
    arrays, got_rows = decode(document, TWO)
    assert got_rows == rows
    assert list(arrays) == ["x", "n"]
    assert arrays["x"].tolist() == [[1, 2], [3, 4]]
    assert arrays["n"].tolist() == [7, 8]


def test_shapes() -> None:
    assert decode({"inputs": 5})[0]["x"].shape == ()
    assert decode({"inputs": []})[0]["x"].shape == (0,)
    assert decode({"instances": [[], []]})[0]["x"].shape == (2, 0)
    assert decode({"instances": [[[1], [2]], [[3], [4]]]})[0]["x"].shape == (2, 2, 1)
    assert decode({"instances": [1, 2, 3]})[0]["x"].shape == (3,)


def test_bytes() -> None:
    values = ["ü", {"b64": "AP8="}]
    for document in (
        {"instances": values},
        {"inputs": values},
        {"instances": [{"t": value} for value in values]},
    ):
        assert decode(document, TEXT)[0]["t"].tolist() == ["ü".encode(), b"\x00\xff"]
    assert decode({"instances": [{"b64": "AA=="}]}, TEXT)[0]["t"].tolist() == [b"\x00"]


def test_the_parameter_timeout() -> None:
    body = json.dumps({"instances": [[1, 2]], "parameters": {"timeout": 1_500_000}}).encode()
    assert decode_predict(body, ONE)[0].timeout == 1.5


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"{", "the request is not JSON: "),
        (b'{"instances": [[NaN, 2]]}', "; JSON has no NaN and no infinity: send binary tensors"),
        ([], "the request must be a JSON object"),
        ({}, "the request must have one of instances (rows) and inputs (columns)"),
        (
            {"instances": [1], "inputs": [1]},
            "the request must have one of instances (rows) and inputs (columns)",
        ),
        (
            {"signature_name": "other", "inputs": []},
            "signature_name: the model has one signature, 'serving_default'",
        ),
        ({"instances": []}, "instances: must be a list of at least one row"),
        ({"instances": {"x": 1}}, "instances: must be a list of at least one row"),
        ({"instances": [[1, 2], [3]]}, "instances: its nested lists differ in length"),
        ({"instances": [[1, 2], 3]}, "instances: its nested lists differ in length"),
        ({"instances": [1, [2, 3]]}, "instances: its nested lists differ in length"),
        ({"instances": [["1", "2"]]}, "instances: FP32 takes numbers only"),
        ({"instances": [[None, 2]]}, "instances: FP32 takes numbers only"),
        ({"instances": [[1e39, 2]]}, "instances: a value is out of the range of FP32"),
        ({"instances": [{"y": [1, 2]}]}, "instances[0]: must be an object with x; got y"),
        ({"instances": [{"x": [1, 2]}, [3, 4]]}, "instances[1]: must be an object with x; got a list"),
        ({"instances": [[1, 2], {"x": [3, 4]}]}, "instances: its nested lists differ in length"),
        ({"inputs": {"x": [[1, 2]], "y": 1}}, "inputs: must be an object with x; got x, y"),
        ({"inputs": "1"}, "inputs: FP32 takes numbers only"),
        (b'{"inputs": ' + b"[" * 65 + b"1" + b"]" * 65 + b"}", "inputs: "),
    ],
)
def test_requests_that_are_refused(document: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(document)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"instances": [[1, 2]]}, "instances[0]: must be an object with x, n; got a list"),
        ({"instances": [{"x": 1, "n": 1}, {"x": 1}]}, "instances[1]: must be an object with x, n; got x"),
        ({"instances": [{"x": [1, 2], "n": 1.5}]}, "instances[].n: INT64 takes whole numbers only"),
        ({"inputs": {"x": [[1, 2]], "n": [True]}}, "inputs.n: INT64 takes whole numbers only"),
        ({"inputs": None}, "inputs: must be an object with x, n; got a null"),
    ],
)
def test_requests_for_two_inputs_that_are_refused(document: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode(document, TWO)
    assert told in caught.value.message


@pytest.mark.parametrize("value", [1, {"b64": "?"}, {"b64": 1}, {"b64": "AA==", "x": 1}, None])
def test_bytes_that_are_refused(value: Any) -> None:
    with pytest.raises(RequestError, match=r"BYTES takes texts|is no base64|must be an object with t"):
        decode({"instances": [value]}, TEXT)


def test_a_model_without_a_signature() -> None:
    with pytest.raises(RequestError, match=r"the model has no signature.* use version 2"):
        decode({"instances": [1]}, None)


def test_answers_in_rows() -> None:
    x, n = np.array([[0.1, np.nan], [2, np.inf]], np.float32), np.array([7, 8])
    assert encode(2, x=x) == {"predictions": [[0.1, None], [2, None]]}
    assert encode(2, x=x, n=n) == {"predictions": [{"x": [0.1, None], "n": 7}, {"x": [2, None], "n": 8}]}
    assert encode(2, h=n.astype(np.float16), b=n.astype(Datatype.BF16.dtype)) == {
        "predictions": [{"h": 7, "b": 7}, {"h": 8, "b": 8}]
    }


def test_answers_in_columns() -> None:
    x, n = np.zeros((2, 3), np.float32).T, np.array(7)
    assert encode(None, x=x) == {"outputs": [[0, 0]] * 3}
    assert encode(None, n=n) == {"outputs": 7}
    assert encode(None, x=x[:1], n=n) == {"outputs": {"x": [[0, 0]], "n": 7}}
    assert encode(None, x=np.zeros((0, 3), np.float32)) == {"outputs": []}


def test_answers_of_bytes() -> None:
    texts = np.array(["ü".encode(), b"\xff"], dtype=np.object_)
    assert encode(2, t=texts) == {"predictions": ["ü", {"b64": "/w=="}]}


@pytest.mark.parametrize("array", [np.array(1.0), np.zeros(3), np.zeros((1, 2))])
def test_outputs_without_a_row_for_each_instance(array: Array) -> None:
    with pytest.raises(RequestError, match=r"output 'x': has shape .* send the request in columns"):
        encode(2, x=array)
