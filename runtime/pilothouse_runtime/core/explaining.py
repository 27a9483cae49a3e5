"""What an explanation is asked for and answered with, and how much work it is: no model, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from pilothouse_runtime.core.errors import RequestError, invalid
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor

FLOATS: Final = (Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64)
MOST_STEPS: Final = 1024
DEFAULT_STEPS: Final = 50  # Captum's own
# Rows that one explanation may run through the model: more is hours of somebody else's requests.
MOST_ROWS: Final = 32768


class Method(StrEnum):
    """How attributions are computed."""

    INTEGRATED_GRADIENTS = "integrated_gradients"  # Sundararajan, Taly, Yan, 2017: needs gradients
    OCCLUSION = "occlusion"  # Zeiler, Fergus, 2014: forward runs only
    FEATURE_ABLATION = "feature_ablation"  # forward runs only


@dataclass(frozen=True)
class Options:
    """What is to be explained, and how; values that depend on the model are as they were sent.

    Attributes:
        output: name of the output, or None: the only one.
        target: a class for all rows, one for each row, or (outputs of more than two dimensions) an index in each
            dimension but the first; None: for each row the class with the largest score.
        baseline: what stands for "nothing": a number, a row, or these by input.
        steps: of integrated gradients.
        window, strides: of occlusion: a size, a size for each dimension of a row, or these by input.
    """

    method: Method = Method.INTEGRATED_GRADIENTS
    output: str | None = None
    target: int | tuple[int, ...] | None = None
    baseline: Any = 0
    steps: int = DEFAULT_STEPS
    window: Any = None
    strides: Any = 1


@dataclass(frozen=True)
class Explanation:
    """The answer.

    Attributes:
        attributions: one tensor, named and shaped like it, for each floating-point input; FP64 of FP64, else FP32.
        target: the class of each row, the one index of all rows, or empty where the output has no classes.
        delta: of integrated gradients: for each row how far its attributions' sum is off the difference that they
            explain.
    """

    method: Method
    output: str
    target: tuple[int, ...]
    attributions: tuple[Tensor, ...]
    delta: tuple[float, ...] | None = None


def explained(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the inputs that get attributions: those of floating point.

    Raises:
        RequestError: there are none, or the inputs do not have the same rows.
    """
    rows = {tensor.array.shape[:1] for tensor in inputs}
    if len(rows) != 1 or rows == {()} or rows == {(0,)}:
        raise invalid(
            "inputs: to be explained, they must all have the same rows in their first dimension, at least one"
        )
    floats = [tensor for tensor in inputs if tensor.datatype in FLOATS]
    if not floats:
        told = ", ".join(f"{tensor.name} is {tensor.datatype}" for tensor in inputs)
        raise invalid(
            f"inputs: attributions are for floating-point inputs, and this model has none ({told}); serve the part of"
            " the model behind its embedding to explain that"
        )
    return floats


def baselines(options: Options, inputs: Sequence[Tensor]) -> list[Array]:
    """Return a baseline of the shape of each of these inputs. Raises RequestError."""
    found = []
    for tensor, value in zip(inputs, _by_input("baseline", options.baseline, inputs, 0), strict=True):
        field, row = f"parameters.baseline of {tensor.name!r}", tensor.array.shape[1:]
        try:
            array = np.asarray(value, dtype=np.float64)
        except (ValueError, TypeError):
            raise invalid(f"{field}: must be a number, or the numbers of one row") from None
        if array.ndim and array.size != math.prod(row):
            raise invalid(
                f"{field}: has {array.size} numbers; a row of shape {list(row)} has {math.prod(row)}"
            )
        array = np.broadcast_to(array.reshape(row if array.ndim else ()), tensor.array.shape)
        found.append(array.astype(tensor.array.dtype))
    return found


def windows(options: Options, inputs: Sequence[Tensor]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the window and the strides, in the dimensions of a row, for each of these inputs. Raises RequestError."""
    if options.window is None:
        raise invalid("parameters.window: occlusion needs one: a size, or a size for each dimension of a row")
    found = []
    for tensor, window, stride in zip(
        inputs,
        _by_input("window", options.window, inputs, None),
        _by_input("strides", options.strides, inputs, 1),
        strict=True,
    ):
        row = tensor.array.shape[1:]
        if not row:
            raise invalid(
                f"input {tensor.name!r}: has one number a row: there is nothing to move a window over"
            )
        sizes = _sizes("window", tensor.name, window, row)
        found.append((sizes, _sizes("strides", tensor.name, stride, sizes)))
    return found


def cost(options: Options, inputs: Sequence[Tensor]) -> int:
    """Return how many rows the model is run with to explain these inputs.

    Raises:
        RequestError: they are too many, or windows do not fit.
    """
    rows = inputs[0].array.shape[0]
    if options.method is Method.INTEGRATED_GRADIENTS:
        runs, remedy = options.steps, "fewer steps"
    elif options.method is Method.OCCLUSION:
        runs = sum(_places(t, *pair) for t, pair in zip(inputs, windows(options, inputs), strict=True))
        remedy = "larger strides and windows"
    else:
        runs, remedy = sum(math.prod(tensor.array.shape[1:]) for tensor in inputs), "occlusion with windows"
    ran: int = runs * rows
    if ran > MOST_ROWS:
        raise invalid(
            f"{options.method} of {rows} rows would run the model on {ran:,} rows, and {MOST_ROWS:,} is the"
            f" most; send fewer rows, or ask for {remedy}"
        )
    return ran


def classes(options: Options, scores: Array, output: str) -> tuple[int, ...]:
    """Return what is explained of an output [rows, ...]: see `Explanation.target`. Raises RequestError."""
    target, rows, inner = options.target, scores.shape[0], scores.shape[1:]
    if not inner:
        if target is not None:
            raise invalid(f"parameters.target: output {output!r} has one number a row, and no classes")
        return ()
    if len(inner) == 1:
        if target is None:
            return tuple(int(index) for index in np.argmax(scores, axis=1))
        wanted = (target,) * rows if isinstance(target, int) else target
        if len(wanted) != rows:
            raise invalid(f"parameters.target: has {len(wanted)} classes for {rows} rows")
        sizes = inner * rows
    else:
        if not isinstance(target, tuple) or len(target) != len(inner):
            raise invalid(
                f"parameters.target: output {output!r} has the shape {list(scores.shape)}: give a list of"
                f" {len(inner)} indexes, one for each dimension but the first"
            )
        wanted, sizes = target, inner
    for index, size in zip(wanted, sizes, strict=True):
        if not 0 <= index < size:
            raise invalid(
                f"parameters.target: is {index}; output {output!r} has {size} there, from 0 to {size - 1}"
            )
    return wanted


def _by_input(field: str, value: Any, inputs: Sequence[Tensor], default: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        return [value] * len(inputs)
    names = [tensor.name for tensor in inputs]
    for name in value:
        if name not in names:
            raise invalid(
                f"parameters.{field}: there is no floating-point input {name!r}; there is {', '.join(names)}"
            )
    return [value.get(name, default) for name in names]


def _sizes(field: str, name: str, value: Any, most: tuple[int, ...]) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, list) else (value,) * len(most)
    if len(sizes) == len(most) and all(type(size) is int and size >= 1 for size in sizes):
        if not isinstance(value, list):  # one size for all: where there is less, all of it
            return tuple(map(min, sizes, most))
        if all(size <= limit for size, limit in zip(sizes, most, strict=True)):
            return sizes
    raise _misfit(field, name, most)


def _misfit(field: str, name: str, most: tuple[int, ...]) -> RequestError:
    return invalid(
        f"parameters.{field} of {name!r}: must be a size, or a list of {len(most)}, each from 1 to at most {list(most)}"
    )


def _places(tensor: Tensor, window: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return how many places a window is put at, as Captum counts them: the last one may reach over the edge."""
    row = tensor.array.shape[1:]
    return math.prod(
        1 + math.ceil((size - width) / stride)
        for size, width, stride in zip(row, window, strides, strict=True)
    )
