"""How far what is served is from what was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.core.tensors import Array, Datatype, datatype_of

# Over the largest number of an output where that is above 1: what another order of adding makes of the last bits.
_TOLERANCES: Final = {Datatype.FP16: 1e-2, Datatype.BF16: 5e-2, Datatype.FP32: 1e-4, Datatype.FP64: 1e-4}


class Comparison:
    """Adds up the largest difference over all outputs and runs.

    Args:
        tolerance: for floats; None: by their type.
    """

    def __init__(self, tolerance: float | None) -> None:
        self._tolerance = tolerance
        self.largest = 0.0

    def add(self, what: str, got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
        """Compare the outputs in `want`.

        Args:
            what: the inputs, in words.
        Raises:
            PackError: they differ by more than the tolerance.
        """
        for name, expected in want.items():
            if name not in got:
                raise PackError(f"the packed model has no output {name!r}; it gives {', '.join(got)}")
            answer = got[name]
            shown = _shown(answer), _shown(expected)
            if shown[0] != shown[1]:
                raise PackError(
                    f"output {name!r} of the packed model is {shown[0]} for {what}, and {shown[1]} offline"
                )
            found = difference(answer, expected)
            self.largest = max(self.largest, found)
            allowed = _allowed(expected, self._tolerance)
            if not found <= allowed:
                raise PackError(
                    f"output {name!r} of the packed model differs by {found:.3g} from the offline answer to {what};"
                    f" tolerance allows {allowed:g}"
                )


def is_close(got: Array, want: Array, tolerance: float | None) -> bool:
    """Say whether two answers of the same type are the same within the tolerance."""
    return got.shape == want.shape and difference(got, want) <= _allowed(want, tolerance)


def bound(want: Array, tolerance: float | None) -> float:
    """Return the largest absolute difference from these numbers that is within the tolerance."""
    return _allowed(want, tolerance) * _scale(want.astype(np.float64))


def difference(got: Array, want: Array) -> float:
    """Return the largest absolute difference, over the largest number in `want` where that is above 1.

    It is infinite where only one of two numbers is NaN, or infinite.
    """
    left, right = got.astype(np.float64), want.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    finite = np.isfinite(left) & np.isfinite(right)
    if not (same | finite).all():
        return math.inf
    return float(np.abs(left[finite] - right[finite]).max(initial=0.0)) / _scale(right)


def _scale(numbers: Array) -> float:
    return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=1.0))


def _allowed(want: Array, tolerance: float | None) -> float:
    of_type = _TOLERANCES.get(datatype_of(want.dtype), 0.0)
    return of_type if tolerance is None or not of_type else tolerance


def _shown(array: Array) -> str:
    return f"{datatype_of(array.dtype)} {list(array.shape)}"
