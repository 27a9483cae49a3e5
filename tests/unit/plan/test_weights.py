"""How many pods make a weight: the table in the docstring, and what must hold for every weight and size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.plan import weights
from pilothouse.plan.weights import Split, reached, split


def worked_examples() -> list[tuple[int, int, Split, int]]:
    """Return the rows of the docstring's table: replicas, weight, split and weight reached."""
    rows = [line for line in (split.__doc__ or "").splitlines() if line.strip().startswith("|")][2:]
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    return [
        (int(n), 50 if w == "any" else int(w), Split(int(c), int(s)), int(r)) for n, w, c, s, r, _ in cells
    ]


@pytest.mark.parametrize(("replicas", "weight", "pods", "share"), worked_examples())
def test_the_worked_examples(replicas: int, weight: int, pods: Split, share: int) -> None:
    assert split(weight, replicas) == pods
    # The one pod at weight 0 gets no requests.
    assert (reached(pods.candidate, pods.stable) if weight else 0) == share


def test_the_table_has_the_hard_cases() -> None:
    cases = {(replicas, weight) for replicas, weight, _, _ in worked_examples()}
    assert {(1, 5), (2, 20), (4, 1), (4, 99), (5, 0), (5, 100), (0, 50)} <= cases


@given(weight=st.integers(1, 99), replicas=st.integers(1, 200))
def test_no_side_is_ever_without_pods_and_none_has_too_many(weight: int, replicas: int) -> None:
    pods = split(weight, replicas)
    assert 1 <= pods.candidate <= replicas
    assert 1 <= pods.stable <= replicas
    assert pods.candidate == replicas or pods.stable == replicas, "one side is always whole"


@given(weight=st.integers(1, 99), replicas=st.integers(1, 60))
def test_no_other_number_of_pods_would_be_nearer(weight: int, replicas: int) -> None:
    """Of the splits with one side whole, none has a share that is nearer by more than the rounding to whole pods."""
    pods = split(weight, replicas)
    exact = replicas * weight / (100 - weight) if weight <= 50 else replicas * (100 - weight) / weight
    chosen = pods.candidate if weight <= 50 else pods.stable
    assert abs(chosen - max(exact, 1)) <= 0.5
    if abs(chosen - exact) == 0.5 and exact > 1:
        assert chosen > exact if weight <= 50 else chosen < exact, "a tie goes to the canary"


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 100))
def test_a_higher_weight_never_means_a_smaller_share(first: int, second: int, replicas: int) -> None:
    low, high = (split(w, replicas) for w in sorted((first, second)))
    assert reached(low.candidate, low.stable) <= reached(high.candidate, high.stable)


def test_nothing_shared_is_nothing_reached() -> None:
    assert weights.reached(0, 0) == 0
