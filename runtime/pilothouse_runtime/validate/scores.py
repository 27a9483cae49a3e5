"""The arithmetic of a validation: how far answers are from what was expected, added up batch by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

import numpy as np

from pilothouse_runtime.core.tensors import Array


class Metric(StrEnum):
    """What is computed, over the outputs that are compared.

    ACCURACY is the share of rows all of whose classes are right, 0 to 1. MEAN_SQUARED_ERROR is over all elements,
    MAX_DIFFERENCE the largest absolute difference of any.
    """

    ACCURACY = "accuracy"
    MEAN_SQUARED_ERROR = "meanSquaredError"
    MAX_DIFFERENCE = "maxDifference"


class MismatchError(ValueError):
    """Answers cannot be compared with what was expected: an output is missing, or its shape does not go with it."""


class Tally:
    """Adds up one metric.

    Attributes:
        flaw: what makes the value NaN, for people; "" as long as nothing does.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._rows = 0
        self._right = 0
        self._elements = 0
        self._squares = 0.0
        self._largest = 0.0
        self.flaw = ""

    @property
    def rows(self) -> int:
        """How many rows have been compared."""
        return self._rows

    @property
    def value(self) -> float:
        """The metric over all rows so far; NaN where a number in it was not finite, or there are no rows."""
        if self.flaw or not self._rows:
            return math.nan
        if self._metric is Metric.ACCURACY:
            return self._right / self._rows
        if self._metric is Metric.MEAN_SQUARED_ERROR:
            return self._squares / self._elements
        return self._largest

    def add(self, answers: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        """Compare the outputs in `expected` for some more rows, which are the first dimension of every array.

        Raises:
            MismatchError: names the output and what does not fit.
        """
        if not expected:
            raise MismatchError("there is no output to compare")
        rows = len(next(iter(expected.values())))
        right = np.ones(rows, np.bool_)
        for name, want in expected.items():
            if name not in answers:
                raise MismatchError(
                    f"there is no output {name!r} in the answer, which has {', '.join(answers)}"
                )
            got = answers[name]
            if not got.size or not want.size:
                raise MismatchError(
                    f"output {name!r} has the shape {_shape(got)}, expected {_shape(want)}: it is empty"
                )
            self._look_for_flaws(name, "the answer", got)
            self._look_for_flaws(name, "what it is compared with", want)
            if self._metric is Metric.ACCURACY:
                right &= _right(name, got, want)
            else:
                self._add_differences(name, got, want)
        self._right += int(right.sum())
        self._rows += rows

    def _look_for_flaws(self, name: str, where: str, array: Array) -> None:
        if self.flaw or array.dtype.kind not in "fV":
            return
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            row = self._rows + int(finite.argmin())
            self.flaw = f"output {name!r} of row {row} holds NaN or infinity in {where}"

    def _add_differences(self, name: str, got: Array, want: Array) -> None:
        if got.shape != want.shape:
            raise MismatchError(
                f"output {name!r} has the shape {_shape(got)} in the answer, expected {_shape(want)};"
                f" {self._metric} needs the same shape"
            )
        with np.errstate(all="ignore"):  # what comes of NaN and of numbers too large is seen in the result
            differences = got.astype(np.float64) - want.astype(np.float64)
            self._squares += float(np.square(differences).sum())
        self._elements += differences.size
        largest = float(np.abs(differences).max())
        self._largest = max(self._largest, largest)
        relevant = self._squares if self._metric is Metric.MEAN_SQUARED_ERROR else largest
        if not self.flaw and not math.isfinite(relevant):
            self.flaw = f"output {name!r} differs by more than a number can hold"


def _right(name: str, got: Array, want: Array) -> Array:
    """Return for each row whether its class is right; with several classes a row, whether all of them are."""
    if got.ndim == want.ndim + 1 and got.shape[:-1] == want.shape:
        got = _largest_of(name, got)
    elif got.shape == want.shape and got.dtype.kind in "fV":
        got, want = _largest_of(name, got), _largest_of(name, want)
    elif got.shape != want.shape:
        raise MismatchError(
            f"output {name!r} has the shape {_shape(got)} in the answer, which does not go with the expected"
            f" {_shape(want)}; accuracy takes classes [rows] or scores [rows, classes]"
        )
    right: Array = (got == want).reshape(len(want), -1).all(axis=1)
    return right


def _largest_of(name: str, scores: Array) -> Array:
    """Return the class with the largest score, along the last dimension."""
    if scores.ndim < 2 or scores.shape[-1] < 2:
        raise MismatchError(
            f"output {name!r} has the shape {_shape(scores)}, from which no class can be told; accuracy takes scores"
            " of two classes or more, or whole numbers that are classes"
        )
    classes: Array = scores.argmax(axis=-1)
    return classes


def _shape(array: Array) -> str:
    return f"[{', '.join(['rows', *map(str, array.shape[1:])])}]"
