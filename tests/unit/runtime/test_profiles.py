"""Profiles of golden data sets, and what the index says of rows that are like them and of rows that are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.profiles import MAJOR, MODERATE, Column, ProfileError, columns, make_profile
from pilothouse_runtime.core.tensors import Array, Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.serve.drift import WINDOW, Drift

RNG = np.random.default_rng(1)
SCORES = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 4)),))


def normal(rows: int, *shape: int, shift: float = 0) -> Array:
    return (RNG.normal(size=(rows, *shape)) + shift).astype(np.float32)


def index(column: Column, values: Array) -> float:
    return column.index(np.bincount(column.bins(values), minlength=len(column.expected)))


def test_the_index_by_hand() -> None:
    """Two bins, half and half; then a quarter and three quarters: 2 x 0.25 x ln 3 / ... summed as the book has it."""
    column = Column("class", np.array([0, 1]), True, np.array([0.5, 0.5, 0.0]))
    by_hand = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert column.index(np.array([25, 75, 0])) == pytest.approx(by_hand)
    assert column.index(np.array([50, 50, 0])) == 0
    # A class that was never seen weighs, and is finite.
    assert column.index(np.array([45, 45, 10])) > MODERATE


@pytest.mark.parametrize("rows", [100, 1000])
def test_what_is_alike_stays_below_the_threshold_and_what_is_not_does_not(rows: int) -> None:
    column = make_profile({"x": normal(1000)}, {}).tensors["input.x"][0]
    threshold = column.threshold(rows, 1000)
    alike = [index(column, normal(rows)) for _ in range(200)]
    assert sum(value > threshold for value in alike) <= 2  # one in a thousand, by chance
    assert index(column, normal(rows, shift=1)) > max(threshold, MAJOR)
    assert index(column, 3 * normal(rows)) > max(threshold, MAJOR)
    assert index(column, np.full(rows, np.nan)) > MAJOR
    assert column.threshold(10**9, 10**9) == MODERATE


def test_columns() -> None:
    def names(array: Any, is_output: bool = False) -> list[str]:
        return [name for name, _ in columns(np.asarray(array), is_output=is_output)]

    assert names(np.ones(5)) == ["value"]
    assert names(np.ones((5, 2))) == ["[0]", "[1]"]
    assert names(np.ones((5, 8, 8))) == ["mean", "std"]
    assert names(np.ones((5, 4)), is_output=True) == ["class", "score"]
    assert names(np.ones((5, 4), np.int64), is_output=True) == ["[0]", "[1]", "[2]", "[3]"]
    assert names(np.ones(())) == names(np.ones((0, 3))) == names(np.array([b"text"], object)) == []
    told = dict(columns(np.array([[1, 3, 2]]).astype(bfloat16), is_output=True))
    assert (told["class"].tolist(), told["score"].tolist()) == ([1], [3])
    long = np.arange(2_000_000, dtype=np.float32).reshape(1, -1)
    assert dict(columns(long, is_output=False))["mean"] == pytest.approx(1e6, rel=0.01)


def test_class_numbers_stand_for_scores() -> None:
    labels = RNG.integers(0, 4, 500)
    profile = make_profile({"x": normal(500, 3)}, {"y": labels}, SCORES)
    assert [column.name for column in profile.tensors["input.x"]] == ["[0]", "[1]", "[2]"]
    (column,) = profile.tensors["output.y"]
    assert column.name == "class"
    assert index(column, labels) < 0.01
    assert index(column, np.full(100, 2)) > MAJOR


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "has 0 rows; a profile needs 100"),
        ({"x": normal(99, 3)}, "has 99 rows; a profile needs 100"),
        ({"z": normal(100, 3)}, "has input.z; the model has x, y"),
        ({"x": np.full((100, 3), np.nan)}, r"has no finite number in \[0\]"),
    ],
)
def test_what_makes_no_profile(inputs: dict[str, Array], told: str) -> None:
    with pytest.raises(ProfileError, match=told):
        make_profile(inputs, {}, SCORES)


class Seen:
    """A server's traffic in miniature: requests go by a watcher, one in each tick of a clock."""

    def __init__(self) -> None:
        labels = RNG.integers(0, 4, 500)
        self.now = 0.0
        self.drift = Drift(make_profile({"x": normal(500, 3)}, {"y": labels}, SCORES), lambda: self.now)

    def send(self, x: Array, wait: float = 1.0) -> bool:
        self.now += wait
        job = Job([Tensor("x", Datatype.FP32, x)], lambda result: None)
        seen = self.drift.begin(job)
        if seen is not None:
            x[:] = 0  # as a model might
            seen([Tensor("y", Datatype.FP32, normal(len(x), 4))])
        return seen is not None

    def metrics(self) -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in self.drift.families()
            for sample in family.samples
        }


def test_the_window_follows_the_latest_rows() -> None:
    seen = Seen()
    assert seen.metrics() == {("pilothouse_drift_rows",): 0}
    for _ in range(30):
        seen.send(normal(32, 3))
    told = seen.metrics()
    assert told["pilothouse_drift_rows",] == 960
    for column in ("[0]", "[1]", "[2]"):
        assert (
            told["pilothouse_drift", "input.x", column]
            < told["pilothouse_drift_threshold", "input.x", column]
        )
    assert told["pilothouse_drift", "output.y", "class"] < MAJOR
    for _ in range(WINDOW // 32):
        shifted = normal(32, 3)
        shifted[:, 1] += 2
        seen.send(shifted)
    told = seen.metrics()
    assert told["pilothouse_drift", "input.x", "[1]"] > 1  # nothing but shifted rows is left
    assert told["pilothouse_drift", "input.x", "[0]"] < MODERATE


def test_looks_are_few_and_short() -> None:
    seen = Seen()
    assert [seen.send(normal(1, 3), wait=0.01) for _ in range(100)].count(True) == 20
    seen.send(normal(10_000, 3))
    assert seen.metrics()["pilothouse_drift_rows",] == 20 + 32
