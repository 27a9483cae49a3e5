"""What the status says of drift, and how seldom it says anything new."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.plan.samples import Drifted
from pilothouse.plan.seen import Json
from tests.support.world import World, model
from tests.unit.plan.given import served

RUNTIME = {"drift": {"uri": "http://models/golden.npz"}}


def told(index: float, threshold: float = 0.1, rows: int = 4096, **others: float) -> Drifted:
    columns = {("input.x", "mean"): (index, threshold)}
    return Drifted(rows, columns | {("output.y", name): (value, 0.1) for name, value in others.items()})


async def drifting(first: Drifted | None, **spec: Any) -> tuple[World, str]:
    """Return a world in which a revision with a profile serves, and its pods say this."""
    world, revision = await served(runtime=RUNTIME, **spec)
    world.listener.drifted = first
    await world.wait(120)
    return world, revision


def drift(world: World, revision: str) -> Json:
    return dict(world.entry(revision).get("drift", {}))


async def test_the_worst_column_is_told() -> None:
    world, revision = await drifting(told(0.05, **{"class": 0.31, "score": 0.12}), replicas=3)
    shown = drift(world, revision)
    assert shown.pop("since")
    assert shown == {
        "level": "Major",
        "message": "output.y class has the index 0.31 (0.10 is not by chance) after 12,288 rows",
    }
    assert world.is_true("Ready"), "it serves all the same"


@pytest.mark.parametrize(
    ("index", "threshold", "level"),
    [
        (0.0, 0.1, "None"),
        (0.1, 0.1, "None"),
        (0.11, 0.1, "Moderate"),
        (0.25, 0.1, "Major"),
        (0.4, 0.5, "None"),
    ],
)
async def test_levels(index: float, threshold: float, level: str) -> None:
    world, revision = await drifting(told(index, threshold))
    assert drift(world, revision)["level"] == level


async def test_numbers_that_move_are_not_written() -> None:
    world, revision = await drifting(told(0.12))
    writes, asked, shown = (
        world.cluster.writes["status"],
        world.listener.asked_of_drift,
        drift(world, revision),
    )
    for number in range(60):
        world.listener.drifted = told(0.11 + number / 1000 if number % 2 else 0.09, rows=number)
        await world.wait(60)
    assert world.listener.asked_of_drift - asked >= 60
    assert world.cluster.writes["status"] == writes
    assert drift(world, revision) == shown
    world.listener.drifted = None
    await world.wait(600)
    assert drift(world, revision) == shown, "pods that fall silent have said what they said"
    world.listener.drifted = told(0.07)
    await world.wait(60)
    assert drift(world, revision)["level"] == "None"
    assert world.cluster.writes["status"] == writes + 1


async def test_pods_are_asked_only_where_there_is_a_profile() -> None:
    world, revision = await served()
    world.listener.drifted = told(1)
    await world.wait(3600)
    assert world.listener.asked_of_drift == 0
    assert not drift(world, revision)


async def test_pods_without_enough_rows_say_nothing_yet() -> None:
    world, revision = await drifting(None)
    assert world.listener.asked_of_drift > 0
    assert not drift(world, revision)


async def test_few_of_many_pods_are_asked() -> None:
    world, _ = await drifting(told(0), replicas=20)
    asked = world.listener.asked_of_drift
    await world.one_pass()
    assert world.listener.asked_of_drift - asked == 8


async def test_another_revision_begins_anew() -> None:
    world, first = await drifting(told(1))
    second = world.apply(model=model("2"), runtime=RUNTIME)
    world.listener.drifted = None
    await world.until(lambda: world.is_true("Ready"))
    assert not drift(world, second)
    assert not drift(world, first)


async def test_an_operator_that_starts_anew_writes_nothing() -> None:
    world, revision = await drifting(told(0.3))
    writes = dict(world.cluster.writes)
    world.start_operator()
    await world.wait(600)
    assert dict(world.cluster.writes) == writes
    assert drift(world, revision)["level"] == "Major"
