"""The operator is killed at every single write of a rollout: whatever the strategy, it ends as if nothing had been."""

from __future__ import annotations

from typing import Literal

import pytest

from pilothouse.control.errors import TransientError
from pilothouse.plan.seen import Json
from tests.property.plan.story import Stage, Way
from tests.support.memory_cluster import Fault
from tests.support.world import World, model, validated

_WAYS = {
    "rolling update": Way(),
    "rolling update with little room": Way(surge=1),
    "rolling update with no room": Way(surge=0),
    "canary": Way("Canary", (Stage(20, 10), Stage(80, 10)), analysed="Pause", validation=True),
    "canary that fails": Way("Canary", (Stage(50, 30),), analysed="Pause", validation=True),
    "blue/green": Way("BlueGreen", validation=True),
    "blue/green by hand": Way("BlueGreen", by_hand=True),
}
_LONG_ENOUGH = 200


async def _rollout(way: Way, goes_well: bool, call: int | None, fault: Fault) -> tuple[Json, int]:
    """Roll out two versions, the n-th write of the operator failing and the operator then started anew.

    Returns how it ended, and how many writes there were.
    """
    world = World(rate=40.0)
    world.cluster.faults_in_writes = {call: fault} if call else {}
    first = world.apply(model=model("1"), replicas=3, rollout=way.spec)
    second = world.revision({"model": model("2")})
    world.job_fate(second, validated(0.99 if goes_well else 0.5))
    end = world.time.timestamp() + _LONG_ENOUGH
    applied = False
    while world.time.timestamp() < end:
        before, changed = world.behind_traffic, world.versions()
        result = await world.one_pass()
        floor = 2 if way.surge == 0 else 3
        assert world.behind_traffic >= min(before, floor)
        if result.failed:
            world.start_operator()
        world.nodes.step()
        changed_by_anybody = changed != world.versions()
        if not applied and world.is_true("Ready"):
            world.apply(model=model("2"), replicas=3, rollout=way.spec)
            applied = True
        if world.phase == "AwaitingPromotion":
            world.command("promote", second)
        world.sleep(
            min(result.again if result.again is not None else 30.0, 1.0 if changed_by_anybody else 30.0)
        )
    assert applied
    assert world.status["stableRevision"] == (second if goes_well else first)
    return _final(world), sum(world.cluster.writes.values()) - world.cluster.writes["event"]


def _final(world: World) -> Json:
    """Return what must not depend on what went wrong on the way: everything but times and identities."""
    status = world.status
    return {
        "stable": status["stableRevision"],
        "target": status["targetRevision"],
        "revisions": [(e["name"], e["number"], e["state"], e.get("reason")) for e in status["revisions"]],
        "history": [(h["revision"], h["outcome"]) for h in status["history"]],
        "conditions": [(c["type"], c["status"], c["reason"]) for c in status["conditions"]],
        "commands": [(c["command"], c["value"]) for c in status.get("commands", ())],
        "objects": sorted((ref.kind, ref.name) for ref in world.cluster.objects if ref.kind != "Pod"),
        "mix": dict(world.mix),
    }


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("name", _WAYS)
async def test_killed_at_any_write_it_ends_the_same(name: str, lost: Literal["request", "answer"]) -> None:
    way, goes_well = _WAYS[name], "fails" not in name
    fault = Fault(TransientError("killed"), lost)
    wanted, writes = await _rollout(way, goes_well, None, fault)
    assert writes >= 20
    for call in range(1, writes + 1):
        ended, _ = await _rollout(way, goes_well, call, fault)
        assert ended == wanted, f"killed at write {call}"
