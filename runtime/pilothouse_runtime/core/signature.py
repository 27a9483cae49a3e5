"""Signatures as JSON, and what happens when a file and its user describe the same model differently."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse_runtime.core.tensors import ANY, Datatype, Signature, TensorSpec


class SignatureError(ValueError):
    """A signature is malformed, or contradicts another one."""


def parse_signature(text: str | bytes) -> Signature:
    """Read {"inputs": [{"name", "datatype", "shape"}], "outputs": [...]}; outputs may be left out.

    Raises:
        SignatureError: says which field breaks which rule.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SignatureError(f"is not JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("inputs"), list):
        raise SignatureError('must be an object with a list "inputs"')
    return Signature(_specs("inputs", data["inputs"]), _specs("outputs", data.get("outputs", [])))


def _specs(field: str, items: Any) -> tuple[TensorSpec, ...]:
    if not isinstance(items, list):
        raise SignatureError(f"{field}: must be a list")
    specs = tuple(_spec(f"{field}[{index}]", item) for index, item in enumerate(items))
    if len({spec.name for spec in specs}) != len(specs):
        raise SignatureError(f"{field}: names must differ from each other")
    return specs


def _spec(field: str, item: Any) -> TensorSpec:
    if not isinstance(item, dict):
        raise SignatureError(f"{field}: must be an object with name, datatype and shape")
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not isinstance(name, str) or not name:
        raise SignatureError(f"{field}.name: must be a text that is not empty")
    if not isinstance(datatype, str) or datatype not in Datatype.__members__:
        raise SignatureError(f"{field}.datatype: {datatype!r} is none of {', '.join(Datatype)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= ANY for size in shape):
        raise SignatureError(f"{field}.shape: must be a list of sizes, with -1 for a free dimension")
    return TensorSpec(name, Datatype(datatype), tuple(shape))


def reconcile(
    declared: Signature | None, found: Signature | None, *, names_made_up: bool
) -> Signature | None:
    """Return the signature to serve under: what the model file says, narrowed by what its user says.

    The user may fix a dimension that the file leaves free, and name outputs that have no name in the file.

    Args:
        declared: from the user, with or without outputs; or None.
        found: from the file, or None where it holds none.
        names_made_up: the output names in `found` are only positions, so that other names are no contradiction.
    Raises:
        SignatureError: the two contradict each other; says where.
    """
    if declared is None or found is None:
        return declared or found
    inputs = _narrow("inputs", _by_name("inputs", declared.inputs, found.inputs), found.inputs)
    if not declared.outputs or not found.outputs:
        return Signature(inputs, declared.outputs or found.outputs)
    outputs = declared.outputs
    if len(outputs) != len(found.outputs):
        raise SignatureError(f"outputs: {len(outputs)} are declared, the model has {_names(found.outputs)}")
    if not names_made_up:
        outputs = _by_name("outputs", outputs, found.outputs)
    return Signature(inputs, _narrow("outputs", outputs, found.outputs))


def _by_name(
    field: str, declared: Sequence[TensorSpec], found: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    named = {spec.name: spec for spec in declared}
    if named.keys() != {spec.name for spec in found}:
        raise SignatureError(f"{field}: {_names(declared)} are declared, the model has {_names(found)}")
    return tuple(named[spec.name] for spec in found)


def _narrow(
    field: str, declared: Sequence[TensorSpec], found: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    for mine, its in zip(declared, found, strict=True):
        fits = len(mine.shape) == len(its.shape) and all(
            theirs in (ANY, own) for own, theirs in zip(mine.shape, its.shape, strict=True)
        )
        if mine.datatype is not its.datatype or not fits:
            raise SignatureError(
                f"{field}: {mine.name!r} is declared as {mine.datatype} {list(mine.shape)},"
                f" the model has {its.datatype} {list(its.shape)}"
            )
    return tuple(declared)


def _names(specs: Iterable[TensorSpec]) -> str:
    return "[" + ", ".join(spec.name for spec in specs) + "]"
