"""Whether two answers are the same but for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pilothouse_runtime.core.tensors import Datatype, Tensor

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


def _is_close(got: Tensor, want: Tensor) -> bool:
    tolerances = _TOLERANCES.get(want.datatype)
    if tolerances is None:
        return np.array_equal(got.array, want.array)
    relative, absolute = tolerances
    left, right = got.array.astype(np.float64), want.array.astype(np.float64)
    finite = np.abs(right[np.isfinite(right)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    return bool(np.allclose(left, right, relative, absolute * scale, equal_nan=True))
