"""Signatures as JSON, and two descriptions of one model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse_runtime.core.signature import SignatureError, parse_signature, reconcile
from pilothouse_runtime.core.tensors import Datatype, Signature, TensorSpec


def spec(name: str, *shape: int, datatype: Datatype = Datatype.FP32) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def test_parsing() -> None:
    text = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}], "outputs": []}'
    assert parse_signature(text) == Signature((spec("x", -1, 64),), ())
    assert parse_signature('{"inputs": []}') == Signature((), ())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": ""}, "inputs[0].name: must be a text that is not empty"),
        ({"name": None}, "inputs[0].name"),
        ({"datatype": "FLOAT"}, "inputs[0].datatype: 'FLOAT' is none of BOOL, UINT8"),
        ({"datatype": []}, "inputs[0].datatype"),
        ({"shape": None}, "inputs[0].shape: must be a list of sizes, with -1 for a free dimension"),
        ({"shape": [-2]}, "inputs[0].shape"),
        ({"shape": [True]}, "inputs[0].shape"),
    ],
)
def test_fields_that_break_a_rule(change: dict[str, Any], told: str) -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [1], **change}
    with pytest.raises(SignatureError) as caught:
        parse_signature(json.dumps({"inputs": [item]}))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"inputs": {}}', '{"inputs": [1]}', '{"inputs": [], "outputs": 1}']
)
def test_documents_of_another_form(text: str) -> None:
    with pytest.raises(SignatureError):
        parse_signature(text)


def test_names_must_differ() -> None:
    item = '{"name": "x", "datatype": "FP32", "shape": []}'
    with pytest.raises(SignatureError, match="inputs: names must differ"):
        parse_signature(f'{{"inputs": [{item}, {item}]}}')


FOUND = Signature((spec("x", -1, 64), spec("n", 2)), (spec("y", -1, 10),))


@pytest.mark.parametrize(
    ("declared", "served"),
    [
        (None, FOUND),
        (FOUND, FOUND),
        (
            Signature((spec("n", 2), spec("x", 8, 64)), ()),
            Signature((spec("x", 8, 64), spec("n", 2)), FOUND.outputs),
        ),
        (Signature(FOUND.inputs, (spec("y", 8, 10),)), Signature(FOUND.inputs, (spec("y", 8, 10),))),
    ],
)
def test_what_agrees(declared: Signature | None, served: Signature) -> None:
    assert reconcile(declared, FOUND, names_made_up=False) == served


def test_one_description_is_enough() -> None:
    assert reconcile(FOUND, None, names_made_up=False) == FOUND
    assert reconcile(None, None, names_made_up=False) is None
    assert reconcile(FOUND, Signature(FOUND.inputs, ()), names_made_up=False) == FOUND


def test_names_that_are_only_positions_may_be_given() -> None:
    named = Signature(FOUND.inputs, (spec("logits", -1, 10),))
    assert reconcile(named, FOUND, names_made_up=True) == named
    with pytest.raises(SignatureError, match=r"outputs: \[logits\] are declared, the model has \[y\]"):
        reconcile(named, FOUND, names_made_up=False)


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (Signature((spec("x", -1, 64),), ()), "inputs: [x] are declared, the model has [x, n]"),
        (Signature((spec("x", -1, 64), spec("m", 2)), ()), "inputs: [x, m] are declared"),
        (
            Signature((spec("x", -1, 63), spec("n", 2)), ()),
            "inputs: 'x' is declared as FP32 [-1, 63], the model has FP32 [-1, 64]",
        ),
        (
            Signature((spec("x", -1, 64), spec("n", -1)), ()),
            "'n' is declared as FP32 [-1], the model has FP32 [2]",
        ),
        (Signature((spec("x", -1, 64), spec("n", 2, datatype=Datatype.INT8)), ()), "declared as INT8 [2]"),
        (Signature((spec("x", 64), spec("n", 2)), ()), "declared as FP32 [64]"),
        (
            Signature(FOUND.inputs, (spec("y", -1, 10), spec("z", 1))),
            "outputs: 2 are declared, the model has [y]",
        ),
    ],
)
def test_contradictions(declared: Signature, told: str) -> None:
    with pytest.raises(SignatureError) as caught:
        reconcile(declared, FOUND, names_made_up=False)
    assert told in str(caught.value)
