"""What a validation counts as right, and how far apart answers are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pilothouse_runtime.core.tensors import Array
from pilothouse_runtime.validate.scores import Metric, MismatchError, Tally


def value(metric: Metric, got: Array, want: Array) -> float:
    tally = Tally(metric)
    tally.add({"y": got}, {"y": want})
    return tally.value


SCORES = np.array(
    [[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.3, 0.4, 0.3]], np.float32
)  # 1, 0, 2, 1


@pytest.mark.parametrize(
    ("got", "want", "share"),
    [
        (SCORES, np.array([1, 0, 2, 0]), 0.75),  # scores and class numbers
        (SCORES, np.array([1, 0, 2, 1], np.uint8), 1),
        (SCORES, np.array([1.0, 0.0, 0.0, 0.0]), 0.5),  # class numbers that are floats
        (SCORES, np.eye(3)[[1, 0, 2, 2]], 0.75),  # ... one-hot
        (SCORES, np.eye(3, dtype=np.int64)[[1, 0, 2, 2]], 0.75),
        (SCORES, -SCORES, 0),  # ... scores of another model
        ((SCORES * 10).astype(np.int8), np.array([1, 0, 2, 0]), 0.75),  # scores that are whole numbers
        (np.array([1, 0, 2, 1]), np.array([1, 0, 0, 0], np.int8), 0.5),  # a model that gives class numbers
        (np.array([True, False]), np.array([True, True]), 0.5),
        (np.array([[1], [2]]), np.array([[1], [3]]), 0.5),
        # Two classes a row: a row is right where both are.
        (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 0]]), 0.5),
        (np.stack([SCORES, SCORES], axis=1), np.array([[1, 1], [0, 0], [2, 0], [1, 1]]), 0.75),
    ],
)
def test_accuracy(got: Array, want: Array, share: float) -> None:
    assert value(Metric.ACCURACY, got, want) == share


def test_of_several_outputs_all_must_be_right() -> None:
    tally = Tally(Metric.ACCURACY)
    tally.add(
        {"a": SCORES, "b": np.array([1, 1, 1, 1]), "more": np.zeros(4)},
        {"a": np.array([1, 0, 0, 0]), "b": np.array([1, 0, 1, 1])},
    )
    assert tally.value == 0.25


@pytest.mark.parametrize(
    ("got", "want", "told"),
    [
        (np.zeros((4, 3)), np.zeros((4, 2)), r"the shape \[rows, 3\] in the answer, which does not go with"),
        (np.zeros((4, 3), np.int64), np.zeros((4, 2)), "does not go with"),
        (np.zeros(4, np.int64), np.zeros((4, 3)), r"does not go with the expected \[rows, 3\]"),
        # One number a row is always the largest of them: it would pass for any class 0.
        (np.zeros((4, 1)), np.zeros(4, np.int64), "from which no class can be told"),
        (np.zeros((4, 1)), np.zeros((4, 1), np.int64), "from which no class can be told"),
        (np.zeros(4), np.zeros(4, np.int64), "two classes or more, or whole numbers"),
        (np.zeros((4, 0)), np.zeros((4, 0)), "it is empty"),
    ],
)
def test_shapes_that_tell_no_class(got: Array, want: Array, told: str) -> None:
    with pytest.raises(MismatchError, match=told):
        value(Metric.ACCURACY, got, want)


@pytest.mark.parametrize(
    ("got", "want", "squared", "largest"),
    [
        (np.array([[1.0, 2.0]]), np.array([[1.0, 4.0]]), 2.0, 2.0),
        (np.array([1, 2, 3], np.uint8), np.array([3, 2, 3], np.uint8), 4 / 3, 2.0),  # nothing wraps around
        (np.array([True, False]), np.array([False, False]), 0.5, 1.0),
        (np.array([60000.0], np.float16), np.array([-60000.0], np.float16), 1.44e10, 120000.0),
        (np.array([2.0], np.float32), np.array([1], np.int64), 1.0, 1.0),
    ],
)
def test_differences(got: Array, want: Array, squared: float, largest: float) -> None:
    assert value(Metric.MEAN_SQUARED_ERROR, got, want) == pytest.approx(squared, rel=1e-3)
    assert value(Metric.MAX_DIFFERENCE, got, want) == pytest.approx(largest, rel=1e-3)


def test_the_mean_is_over_all_elements_of_all_outputs() -> None:
    tally = Tally(Metric.MEAN_SQUARED_ERROR)
    tally.add({"a": np.zeros((2, 3)), "b": np.zeros(2)}, {"a": np.ones((2, 3)), "b": np.full(2, 3.0)})
    assert tally.value == (6 * 1 + 2 * 9) / 8


@pytest.mark.parametrize("metric", [Metric.MEAN_SQUARED_ERROR, Metric.MAX_DIFFERENCE])
def test_differences_need_the_same_shape(metric: Metric) -> None:
    with pytest.raises(MismatchError, match=r"the shape \[rows, 3\] in the answer, expected \[rows\]; "):
        value(metric, SCORES, np.array([1, 0, 2, 0]))
    with pytest.raises(MismatchError, match=r"\[rows, 1\] in the answer, expected \[rows\]"):
        value(metric, np.zeros((4, 1)), np.zeros(4))  # which numpy would compare, all with all


@pytest.mark.parametrize("metric", list(Metric))
def test_missing_outputs(metric: Metric) -> None:
    with pytest.raises(MismatchError, match="there is no output 'y' in the answer, which has a, b"):
        Tally(metric).add({"a": SCORES, "b": SCORES}, {"y": SCORES})
    with pytest.raises(MismatchError, match="there is no output to compare"):
        Tally(metric).add({"y": SCORES}, {})


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("flaw", [np.nan, np.inf, -np.inf])
def test_no_number_comes_of_what_is_none(metric: Metric, flaw: float) -> None:
    flawed = SCORES.copy()
    flawed[2, 0] = flaw
    tally = Tally(metric)
    tally.add({"y": SCORES}, {"y": SCORES})
    tally.add({"y": flawed}, {"y": SCORES})
    assert math.isnan(tally.value)
    assert tally.flaw == "output 'y' of row 6 holds NaN or infinity in the answer"
    tally.add({"y": SCORES}, {"y": SCORES})
    assert math.isnan(tally.value)
    other = Tally(metric)
    other.add(
        {"y": SCORES}, {"y": flawed}
    )  # the stable revision's answer: equal infinities are no pass either
    assert math.isnan(other.value)
    assert "row 2 holds NaN or infinity in what it is compared with" in other.flaw


def test_differences_beyond_all_numbers() -> None:
    tally = Tally(Metric.MEAN_SQUARED_ERROR)
    tally.add({"y": np.array([1e200])}, {"y": np.array([-1e200])})
    assert math.isnan(tally.value)
    assert tally.flaw == "output 'y' differs by more than a number can hold"
    assert value(Metric.MAX_DIFFERENCE, np.array([1e200]), np.array([-1e200])) == 2e200


def test_nothing_compared_is_no_number() -> None:
    assert math.isnan(Tally(Metric.ACCURACY).value)
