"""How inputs and outputs are spread in a golden data set, and how far from that others are: pure, numpy only.

A row of a tensor is told by a few numbers (columns). Each column's values are put into bins: tenths of the golden
values, or for whole numbers the values themselves. What is compared is how many rows fall into each bin, by the
population stability index: the sum of (p - q) ln(p / q) over all bins. Sources: N. Siddiqi, "Credit Risk Scorecards",
2006 (the index, and 0.1 and 0.25 as its bounds); B. Yurdakul and J. Naranjo, "Statistical properties of the
population stability index", Journal of Risk Model Validation, 2020 (how large chance alone makes it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from pilothouse_runtime.core.tensors import Array, Datatype, Signature

INPUT: Final = "input."
OUTPUT: Final = "output."
MODERATE: Final = 0.1
MAJOR: Final = 0.25
MIN_ROWS: Final = 100  # of a golden data set: with fewer, chance is larger than what is looked for
_BINS: Final = 10
_MOST_ELEMENTS: Final = 32  # of a row, that are columns of their own
_MOST_VALUES: Final = 20  # whole numbers that are bins of their own; the rarer ones share one
MOST_SEEN: Final = 262_144  # elements of one tensor that are looked at
_FLOOR: Final = 1e-4  # a bin without rows would make the index infinite
_CHANCE: Final = 3.09  # standard deviations that chance exceeds once in a thousand times


class ProfileError(ValueError):
    """A golden data set makes no profile."""


@dataclass(frozen=True)
class Column:
    """One number of each row, and how it is spread in the golden data set.

    Attributes:
        name: of the number, such as mean, class or [3].
        cuts: between bins, ascending; or the values that have bins of their own.
        exact: which of these. The last bin is for all other values, or for what is no finite number.
        expected: share of the golden rows in each bin.
    """

    name: str
    cuts: Array
    exact: bool
    expected: Array

    def bins(self, values: Array) -> Array:
        """Return the bin of each value."""
        count = len(self.cuts)
        if self.exact:
            found = np.searchsorted(self.cuts, values)
            return np.where(self.cuts[np.minimum(found, count - 1)] == values, found, count)
        return np.where(np.isfinite(values), np.searchsorted(self.cuts, values, side="right"), count + 1)

    def index(self, counts: Array) -> float:
        """Return the population stability index of rows counted by bins."""
        seen = np.maximum(counts / counts.sum(), _FLOOR)
        expected = np.maximum(self.expected, _FLOOR)
        return float(((seen - expected) * np.log(seen / expected)).sum())

    def threshold(self, rows: int, golden: int) -> float:
        """Return what the index of so many rows exceeds only where something has changed: at least MODERATE."""
        free = max(int((self.expected > 0).sum()) - 1, 1)
        # The upper end of chi-square, by Wilson and Hilferty's approximation.
        chance = free * (1 - 2 / (9 * free) + _CHANCE * (2 / (9 * free)) ** 0.5) ** 3
        return float(max(MODERATE, chance * (1 / rows + 1 / golden)))


@dataclass(frozen=True)
class Profile:
    """Columns by tensor; tensors are called as in the data set, input.NAME and output.NAME."""

    rows: int
    tensors: Mapping[str, tuple[Column, ...]]


def make_profile(
    inputs: Mapping[str, Array], outputs: Mapping[str, Array], signature: Signature | None = None
) -> Profile:
    """Return the profile of a golden data set: arrays [rows, ...] by the names of the model's inputs and outputs.

    Args:
        signature: the model's; by it, class numbers [rows] are known for what stands for scores [rows, classes].
    Raises:
        ProfileError: the set has too few rows, nothing to count, or tensors that the model has not.
    """
    rows = min(map(len, inputs.values()), default=0)
    if rows < MIN_ROWS:
        raise ProfileError(f"has {rows} rows; a profile needs {MIN_ROWS}")
    known = {spec.name: spec for spec in signature.inputs + signature.outputs} if signature else {}
    tensors = {}
    for prefix, arrays in ((INPUT, inputs), (OUTPUT, outputs)):
        for name, array in arrays.items():
            spec = known.get(name)
            if spec is None and known and (prefix is INPUT or (signature and signature.outputs)):
                raise ProfileError(f"has {prefix}{name}; the model has {', '.join(known)}")
            labels = spec is not None and prefix is OUTPUT and array.ndim == 1 and len(spec.shape) == 2
            found = [("class", array)] if labels else columns(array, is_output=prefix is OUTPUT)
            tensors[prefix + name] = tuple(_column(column, np.asarray(values)) for column, values in found)
    return Profile(rows, {name: found for name, found in tensors.items() if found})


def columns(array: Array, *, is_output: bool) -> Iterator[tuple[str, Array]]:
    """Yield what tells the rows of a tensor [rows, ...], by name: vectors of a number for each row.

    Scores have their best class and its score; short rows, or single numbers, each of their elements; longer ones
    their mean and standard deviation. Of very long rows, evenly spread elements are taken for all.
    """
    if array.dtype == Datatype.BYTES.dtype or not array.ndim or not array.size:
        return
    flat = array.reshape(len(array), -1)
    width = flat.shape[1]
    scores = is_output and array.ndim == 2 and width > 1 and array.dtype.kind in "fV"
    flat = flat[:, :: 1 if scores else 1 + width // MOST_SEEN]
    # numpy knows little of BF16. And in any case a copy of what is small, as a model may write to its inputs.
    flat = flat.astype(np.float32, copy=False) if array.dtype == Datatype.BF16.dtype else flat
    if scores:
        yield "class", np.argmax(flat, axis=1)
        yield "score", np.max(flat, axis=1)
    elif width <= _MOST_ELEMENTS:
        names = ["value"] if array.ndim == 1 else [f"[{index}]" for index in range(width)]
        yield from zip(names, flat.T.copy(), strict=True)
    else:
        yield "mean", flat.mean(axis=1, dtype=np.float64)
        yield "std", flat.std(axis=1, dtype=np.float64)


def _column(name: str, values: Array) -> Column:
    if values.dtype.kind in "biu":
        found, counts = np.unique(values, return_counts=True)
        if name == "class" or len(found) <= _MOST_VALUES:
            cuts = np.sort(found[np.argsort(-counts, kind="stable")[:_MOST_VALUES]])
            return _counted(name, cuts, True, values)
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        raise ProfileError(f"has no finite number in {name} of a tensor")
    return _counted(name, np.unique(np.quantile(finite, np.arange(1, _BINS) / _BINS)), False, values)


def _counted(name: str, cuts: Array, exact: bool, values: Array) -> Column:
    bins = len(cuts) + (1 if exact else 2)
    column = Column(name, cuts, exact, np.zeros(bins))
    expected = np.bincount(column.bins(values), minlength=bins) / len(values)
    return Column(name, cuts, exact, expected)
