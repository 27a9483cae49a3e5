"""The arithmetic of a validation against the plainest arithmetic there is, and what must hold for any numbers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pilothouse_runtime.contract import TERMINATION_LOG_LIMIT, FailureReason, LastWords, ValidationReport
from pilothouse_runtime.core.tensors import Array
from pilothouse_runtime.validate.scores import Metric, Tally

METRICS = st.sampled_from(list(Metric))
NUMBERS = st.floats(-1000, 1000, width=32)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    """Scores [rows, classes] of two models, often the same."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 4)))
    few = st.sampled_from([-1.0, 0.0, 1.0]) | NUMBERS
    got, want = (draw(npst.arrays(np.float32, shape, elements=few)) for _ in range(2))
    return got, want


def tally(metric: Metric, got: Array, want: Array, cuts: Sequence[int] = ()) -> Tally:
    """Compare in batches that end at `cuts`."""
    result = Tally(metric)
    edges = [0, *sorted({cut % len(got) for cut in cuts} - {0}), len(got)]
    for start, end in itertools.pairwise(edges):
        result.add({"y": got[start:end]}, {"y": want[start:end]})
    assert result.rows == len(got)
    return result


def by_hand(metric: Metric, got: list[list[float]], want: list[list[float]]) -> float:
    """The same in plain Python."""
    if metric is Metric.ACCURACY:
        return sum(g.index(max(g)) == w.index(max(w)) for g, w in zip(got, want, strict=True)) / len(got)
    differences = [a - b for g, w in zip(got, want, strict=True) for a, b in zip(g, w, strict=True)]
    if metric is Metric.MAX_DIFFERENCE:
        return max(map(abs, differences))
    return math.fsum(d * d for d in differences) / len(differences)


@given(METRICS, pairs(), st.lists(st.integers(0, 20), max_size=4))
def test_as_by_hand_whatever_the_batches(metric: Metric, drawn: tuple[Array, Array], cuts: list[int]) -> None:
    got, want = drawn
    expected = by_hand(metric, got.tolist(), want.tolist())
    assert tally(metric, got, want, cuts).value == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(pairs())
def test_bounds_that_hold_between_them(drawn: tuple[Array, Array]) -> None:
    got, want = drawn
    assert 0 <= tally(Metric.ACCURACY, got, want).value <= 1
    largest = tally(Metric.MAX_DIFFERENCE, got, want).value
    squared = tally(Metric.MEAN_SQUARED_ERROR, got, want).value
    assert largest**2 / got.size <= squared * (1 + 1e-12)
    assert squared <= largest**2 * (1 + 1e-12)


@given(METRICS, pairs())
def test_the_same_answers_are_perfect(metric: Metric, drawn: tuple[Array, Array]) -> None:
    assert tally(metric, drawn[0], drawn[0].copy()).value == (1 if metric is Metric.ACCURACY else 0)


@given(METRICS, pairs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_is_nothing(metric: Metric, drawn: tuple[Array, Array], random: Random) -> None:
    got, want = drawn
    order = list(range(len(got)))
    random.shuffle(order)
    assert tally(metric, got[order], want[order]).value == pytest.approx(
        tally(metric, got, want).value, rel=1e-12
    )


@given(pairs(), st.lists(st.integers(0, 20), max_size=4))
def test_class_numbers_one_hot_and_scores_mean_the_same(drawn: tuple[Array, Array], cuts: list[int]) -> None:
    got, want = drawn
    classes = want.argmax(1)
    values = {
        tally(Metric.ACCURACY, got, classes, cuts).value,
        tally(Metric.ACCURACY, got, np.eye(want.shape[1], dtype=np.int64)[classes], cuts).value,
        tally(Metric.ACCURACY, got, want, cuts).value,
        tally(Metric.ACCURACY, got.argmax(1), classes, cuts).value,
    }
    assert len(values) == 1


@given(
    METRICS,
    pairs(),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.integers(0, 100),
    st.booleans(),
    st.lists(st.integers(0, 20), max_size=4),
)
def test_one_number_that_is_none_spoils_all(
    metric: Metric, drawn: tuple[Array, Array], flaw: float, at: int, in_answer: bool, cuts: list[int]
) -> None:
    spoilt = drawn[0] if in_answer else drawn[1]
    spoilt.reshape(-1)[at % spoilt.size] = flaw
    result = tally(metric, *drawn, cuts)
    assert math.isnan(result.value)
    assert f"of row {at % spoilt.size // spoilt.shape[1]} holds NaN or infinity" in result.flaw


@given(METRICS, npst.arrays(np.float64, 3), npst.arrays(np.float64, 3))
def test_never_infinite(metric: Metric, got: Array, want: Array) -> None:
    assume(metric is not Metric.ACCURACY)
    assert not math.isinf(tally(metric, got, want).value)


@given(METRICS, st.floats(), st.integers(0, 10**9), st.text(max_size=6000))
def test_reports_are_kept_by_the_kubelet_and_read_again(
    metric: Metric, value: float, rows: int, message: str
) -> None:
    text = ValidationReport(metric, value, rows, message).encode()
    assert len(text.encode()) <= TERMINATION_LOG_LIMIT
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    read = ValidationReport.decode(text)
    assert read is not None
    assert (read.metric, read.rows) == (metric, rows)
    assert read.value == value or (math.isnan(read.value) and not math.isfinite(value))
    assert read.message == message or (read.message.endswith("…") and message.startswith(read.message[:-1]))
    assert LastWords.decode(text) is None


@given(st.sampled_from(list(FailureReason)), st.text(max_size=20), st.booleans())
def test_last_words_are_no_report(reason: FailureReason, message: str, permanent: bool) -> None:
    assert ValidationReport.decode(LastWords(reason, message, permanent).encode()) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["metric", "value", "rows", "message"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(JSON.map(json.dumps) | st.text())
def test_what_others_write_is_read_or_not(text: str) -> None:
    read = ValidationReport.decode(text)
    assert read is None or not math.isinf(read.value)
