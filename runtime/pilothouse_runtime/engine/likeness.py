"""Whether two answers are the same but for rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pilothouse_runtime.core.tensors import Array, Datatype, Tensor

# Relative and absolute tolerance. Adding numbers in another order, as a batch of another size does, moves the last of
# 24, 11 or 8 bits, a few times over; models that compute in halves and answer in more are the reason for FP32's.
_TOLERANCES: Final = {
    Datatype.FP16: (1e-2, 1e-3),
    Datatype.BF16: (5e-2, 1e-2),
    Datatype.FP32: (1e-3, 1e-5),
    Datatype.FP64: (1e-3, 1e-5),
}


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what a model may write to, or what stays as it is when the model runs again: it may share its memory."""
    return [Tensor(tensor.name, tensor.datatype, tensor.array.copy()) for tensor in tensors]


def difference(got: Sequence[Tensor], want: Sequence[Tensor]) -> str:
    """Return what differs between the outputs of two runs, or "" where nothing does.

    Floats may differ by rounding, measured against the largest of an output where that is above 1; all else may not.
    """
    if [tensor.name for tensor in got] != [tensor.name for tensor in want]:
        return f"outputs {', '.join(t.name for t in got)} instead of {', '.join(t.name for t in want)}"
    for mine, its in zip(got, want, strict=True):
        shapes = f"{mine.datatype} {list(mine.array.shape)}", f"{its.datatype} {list(its.array.shape)}"
        if shapes[0] != shapes[1]:
            return f"output {its.name!r} is {shapes[0]} instead of {shapes[1]}"
        if not _is_close(mine, its):
            return f"output {its.name!r} has other numbers"
    return ""


def deviation(got: Sequence[Tensor], want: Sequence[Tensor]) -> tuple[float, str]:
    """Return how far off an answer is where it is furthest off, and the name of the output.

    It is the largest difference in an output, as a part of the largest number in it; infinite where outputs have other
    names, types or shapes, where whole numbers differ at all, or where only one of two is finite.
    """
    worst, where = 0.0, ""
    if [tensor.name for tensor in got] != [tensor.name for tensor in want]:
        return math.inf, "of another name"
    for mine, its in zip(got, want, strict=True):
        if mine.datatype is not its.datatype or mine.array.shape != its.array.shape:
            off = math.inf
        elif its.datatype not in _TOLERANCES:
            off = 0.0 if np.array_equal(mine.array, its.array) else math.inf
        else:
            off = _off(mine.array.astype(np.float64), its.array.astype(np.float64))
        if off > worst:
            worst, where = off, its.name
    return worst, where


def _off(got: Array, want: Array) -> float:
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return math.inf
    largest = float(np.abs(want[finite]).max(initial=0.0))
    return float(np.abs(got[finite] - want[finite]).max(initial=0.0)) / (largest or 1.0)


def _is_close(got: Tensor, want: Tensor) -> bool:
    tolerances = _TOLERANCES.get(want.datatype)
    if tolerances is None:
        return np.array_equal(got.array, want.array)
    relative, absolute = tolerances
    left, right = got.array.astype(np.float64), want.array.astype(np.float64)
    finite = np.abs(right[np.isfinite(right)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    return bool(np.allclose(left, right, relative, absolute * scale, equal_nan=True))
