"""How a rolling update goes where there is little room, or none, for more pods, told as short stories."""

from __future__ import annotations

import pytest

from pilothouse.plan.seen import Json
from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model
from tests.unit.plan.given import blue_green, canary, served, weight


def taken(world: World) -> int:
    """Return how many pods take up room on some node, those that are just ending included."""
    return sum(ref.kind == "Pod" for ref in world.cluster.objects)


@pytest.mark.parametrize(("replicas", "surge"), [(4, 1), (4, 2), (4, 3), (3, 1), (2, 1)])
async def test_never_more_pods_than_surge_allows_nor_fewer_ready_than_asked_for(
    replicas: int, surge: int
) -> None:
    world, first = await served(replicas=replicas)
    second = world.apply(model=model("2"), replicas=replicas, rollout={"surge": surge})
    async for _ in world.moves(300):
        assert taken(world) <= replicas + surge
        assert world.behind_traffic >= replicas
        if world.traffic == second:
            break
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: replicas}
    await world.wait(60)
    assert world.child("Deployment", first) is None


@pytest.mark.parametrize("replicas", [4, 2])
async def test_without_surge_each_old_pod_goes_before_a_new_one_comes(replicas: int) -> None:
    world, _ = await served(replicas=replicas)
    second = world.apply(model=model("2"), replicas=replicas, rollout={"surge": 0})
    async for _ in world.moves(300):
        assert taken(world) <= replicas
        assert world.behind_traffic >= replicas - 1
        if world.phase == "Shifting":
            cost = f"surge is 0: at most {replicas - 1} of {replicas} pods answer meanwhile"
            assert cost in world.condition("Ready")["message"]
        if world.traffic == second:
            break
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: replicas}


async def test_one_replica_without_surge_is_an_outage_and_the_status_says_so() -> None:
    world, first = await served(replicas=1)
    second = world.apply(model=model("2"), replicas=1, rollout={"surge": 0})
    world.fate(second, Fate(Kind.RUNNING))
    await world.until(lambda: not world.nodes.pods(first))
    await world.wait(5)
    assert world.condition("Available")["status"] == "False"
    assert "nobody answers until the new one is ready" in world.condition("Ready")["message"]
    assert taken(world) == 1
    world.fate(second, Fate())
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 1}


async def test_surge_as_large_as_the_model_is_no_limit() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout={"surge": 2})
    async for _ in world.moves(60):
        assert len(world.mix) == 1, "one switch, no mix"
    assert world.mix == {second: 2}
    assert first != second


async def test_first_revision_needs_no_surge() -> None:
    world = World()
    first = world.apply(model=model("1"), replicas=3, rollout={"surge": 0})
    await world.until(lambda: world.is_true("Ready"), limit=60)
    assert world.mix == {first: 3}


async def test_new_pod_that_never_becomes_ready_takes_no_more_old_ones_along() -> None:
    world, first = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout={"surge": 0, "progressDeadline": "2m"})
    world.fate(second, Fate(Kind.RUNNING))
    async for _ in world.moves(110):
        assert world.behind(first) >= 3
    await world.until(lambda: world.phase == "Failed")
    await world.until(lambda: world.behind(first) == 4, limit=60)
    assert world.mix == {first: 4}


async def test_failure_half_way_brings_the_old_pods_back_within_the_room_there_is() -> None:
    world, first = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout={"surge": 1})
    await world.until(lambda: world.behind(second) == 2)
    world.fate(second, Fate(Kind.CRASH, "boom"))
    await world.until(lambda: world.phase == "Failed")
    async for _ in world.moves(120):
        assert taken(world) <= 5
    assert world.mix == {first: 4}


async def test_paused_half_way_it_stays_half_way() -> None:
    world, first = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout={"surge": 1})
    await world.until(lambda: world.behind(second) >= 1)
    world.patch(paused=True)
    await world.wait(30)
    halfway = dict(world.mix)
    assert set(halfway) == {first, second}
    await world.wait(600)
    assert dict(world.mix) == halfway
    world.patch(paused=False)
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 4}


async def test_scaled_up_half_way_it_ends_whole() -> None:
    world, _ = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout={"surge": 1})
    await world.until(lambda: world.behind(second) == 1)
    world.scale(6)
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 6}


async def test_surge_changed_half_way_takes_nobodys_requests_away() -> None:
    world, _ = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout={"surge": 1})
    await world.until(lambda: world.behind(second) == 2)
    world.patch(rollout={"surge": 2})
    async for _ in world.moves(300):
        assert world.behind_traffic >= 4
        if world.traffic == second:
            break
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 4}


async def test_spec_back_to_stable_half_way_keeps_as_many_ready_pods_as_there_were() -> None:
    world, first = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout={"surge": 1})
    await world.until(lambda: world.behind(second) == 2)
    world.patch(model=model("1"))
    async for _ in world.moves(120):
        assert world.behind_traffic >= 4
        assert world.behind(second) <= 2, "nobody asks for it any more"
    assert world.is_true("Ready")
    assert world.mix == {first: 4}


@pytest.mark.parametrize("way", [{}, {"surge": 1}, {"surge": 0}, blue_green(), canary(weight(20, "10s"))])
@pytest.mark.parametrize("held", [False, True])
async def test_next_spec_half_way_comes_to_its_end_and_keeps_requests_on_the_way(
    way: Json, held: bool
) -> None:
    # Given a rolling update of version 2 that is half way, and perhaps held there
    world, _ = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout={"surge": 1})
    await world.until(lambda: world.behind(second) == 2)
    if held:
        world.command("pause", second)
        await world.wait(30)
    # When another version is asked for, by the same way or another
    third = world.apply(model=model("3"), replicas=4, rollout=way)
    # Then that comes to serve, and nobody has to resume what is not asked for any more
    async for _ in world.moves(400):
        assert world.behind_traffic >= (3 if way.get("surge") == 0 else 4)
    assert world.is_true("Ready")
    assert world.mix == {third: 4}


@pytest.mark.parametrize(
    ("replicas", "surge", "new", "fewer"), [(5, 1, 2, 2), (5, 2, 2, 2), (6, 0, 3, 3), (4, 1, 1, 1)]
)
async def test_scaled_down_half_way_as_many_as_asked_for_stay_ready(
    replicas: int, surge: int, new: int, fewer: int
) -> None:
    world, _ = await served(replicas=replicas)
    second = world.apply(model=model("2"), replicas=replicas, rollout={"surge": surge})
    await world.until(lambda: world.behind(second) == new)
    world.scale(fewer)
    async for _ in world.moves(120):
        assert world.behind_traffic >= fewer - (1 if surge == 0 else 0)
    assert world.is_true("Ready")
    assert world.mix == {second: fewer}
