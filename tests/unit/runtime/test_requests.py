"""Requests against a model's signature."""

from __future__ import annotations

import numpy as np
import pytest

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.requests import (
    InferRequest,
    RequestedOutput,
    arrange_inputs,
    check_outputs,
    choose_outputs,
)
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec

X = TensorSpec("x", Datatype.FP32, (-1, 2))
N = TensorSpec("n", Datatype.INT64, ())
SIGNATURE = Signature((X, N), (TensorSpec("y", Datatype.FP32, (-1,)),))
GOOD_X = Tensor("x", Datatype.FP32, np.zeros((3, 2), np.float32))
GOOD_N = Tensor("n", Datatype.INT64, np.zeros((), np.int64))


def test_inputs_are_put_in_the_models_order() -> None:
    assert arrange_inputs([GOOD_N, GOOD_X], SIGNATURE) == (GOOD_X, GOOD_N)


def test_without_a_signature_the_order_sent_is_kept() -> None:
    assert arrange_inputs([GOOD_N, GOOD_X], None) == (GOOD_N, GOOD_X)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([GOOD_X], "inputs: 'n' is missing; the model takes x FP32 [-1, 2], n INT64 []"),
        (
            [GOOD_X, GOOD_N, Tensor("z", Datatype.INT8, np.zeros(1, np.int8))],
            "inputs: the model has no input 'z'",
        ),
        ([GOOD_X, GOOD_X], "inputs: the same name occurs more than once"),
        (
            [GOOD_X, Tensor("n", Datatype.INT32, np.zeros((), np.int32))],
            "input 'n': expected datatype INT64, got INT32",
        ),
        (
            [Tensor("x", Datatype.FP32, np.zeros(2, np.float32)), GOOD_N],
            "input 'x': expected shape [-1, 2], got [2] (-1 stands for any size)",
        ),
    ],
)
def test_inputs_that_do_not_fit(inputs: list[Tensor], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        arrange_inputs(inputs, SIGNATURE)
    assert told in caught.value.message


def test_outputs_come_as_asked_for() -> None:
    made = [GOOD_X, GOOD_N]
    everything = choose_outputs(InferRequest((), binary_outputs=True), made)
    assert [(output.tensor.name, output.binary) for output in everything] == [("x", True), ("n", True)]
    asked = InferRequest((), (RequestedOutput("n", True), RequestedOutput("x", False)), binary_outputs=True)
    assert [(o.tensor.name, o.binary) for o in choose_outputs(asked, made)] == [("n", True), ("x", False)]


@pytest.mark.parametrize(
    ("names", "told"),
    [(["z"], "the model has no output 'z'; it gives x, n"), (["x", "x"], "'x' is asked for more than once")],
)
def test_outputs_that_there_are_not(names: list[str], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        check_outputs(InferRequest((), tuple(RequestedOutput(name, False) for name in names)), ["x", "n"])
