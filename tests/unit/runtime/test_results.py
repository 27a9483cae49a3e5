"""Names of what models return."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from pilothouse_runtime.engine.failures import UnservableError
from pilothouse_runtime.engine.results import named_tensors

A, B, C = (torch.full((1,), float(number)) for number in range(3))
WEIGHT = torch.nn.Parameter(A)


@pytest.mark.parametrize(
    ("result", "wanted", "names", "values"),
    [
        (A, (), ["output_0"], [A]),
        (A, ("y",), ["y"], [A]),
        ((A, B), (), ["output_0", "output_1"], [A, B]),
        ([A, B], ("y", "z"), ["y", "z"], [A, B]),
        ((A, B), ("output_1", "output_0"), ["output_1", "output_0"], [A, B]),
        ((WEIGHT, B), ("y", "z"), ["y", "z"], [WEIGHT, B]),
        ({"b": B, "a": A}, (), ["b", "a"], [B, A]),
        ({"b": B, "a": A}, ("a", "b"), ["a", "b"], [A, B]),
        ({"output_0": A}, ("y",), ["y"], [A]),
        ({"b": WEIGHT, "a": A}, ("a", "b"), ["a", "b"], [A, WEIGHT]),
        (OrderedDict(a=A), ("a",), ["a"], [A]),
        ({1: A}, (), ["1"], [A]),
        ((A, {"x": B, "y": [C]}), (), ["output_0", "1.x", "1.y.0"], [A, B, C]),
        (((A, B), C), ("a", "b", "c"), ["a", "b", "c"], [A, B, C]),
        ((), (), [], []),
    ],
)
def test_names(result: Any, wanted: tuple[str, ...], names: list[str], values: list[torch.Tensor]) -> None:
    got = named_tensors(result, wanted)
    assert list(got[0]) == names
    assert [tensor is value for tensor, value in zip(got[1], values, strict=True)] == [True] * len(values)


@pytest.mark.parametrize(
    ("result", "wanted", "told"),
    [
        (A, ("y", "z"), "it is output_0; the signature has y, z"),
        ((A, B), ("y",), "it is output_0, output_1; the signature has y"),
        ({"a": A}, ("b",), "it is a; the signature has b"),
        ({"a": A, "b": B}, ("a",), "it is a, b; the signature has a"),
        ((A, 5), (), "output_1 is of type int; a model returns tensors"),
        ({"a": "text"}, ("a",), "a is of type str; a model returns tensors"),
        (None, (), "output_0 is of type NoneType; a model returns tensors"),
    ],
)
def test_results_that_do_not_fit(result: Any, wanted: tuple[str, ...], told: str) -> None:
    with pytest.raises(UnservableError) as caught:
        named_tensors(result, wanted)
    assert str(caught.value) == told
