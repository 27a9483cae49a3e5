"""How a blue/green rollout switches all requests at once, told as short stories."""

from __future__ import annotations

from pilothouse.api.names import pod_selector
from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model
from tests.unit.plan.given import blue_green, served


async def waiting(**spec: object) -> tuple[World, str, str]:
    """Return a world in which version 2 is ready to take over by hand."""
    world, first = await served(**spec)
    second = world.apply(model=model("2"), rollout=blue_green(autoPromote=False), **spec)
    await world.until(lambda: world.phase == "AwaitingPromotion")
    return world, first, second


async def test_all_requests_go_over_in_one_switch() -> None:
    world, first = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout=blue_green())
    mixes = []
    async for _ in world.moves(120):
        if not mixes or mixes[-1] != world.mix:
            mixes.append(world.mix)
    assert mixes == [{first: 3}, {second: 3}]
    assert world.is_true("Ready")


async def test_new_revision_can_be_tried_behind_the_preview_service() -> None:
    world, first, second = await waiting(replicas=2)
    await world.wait(10)
    preview = world.child("Service", "digits-preview")
    assert preview is not None
    assert preview["spec"]["selector"] == pod_selector("digits", second)
    assert len(world.selected("digits-preview")) == 2
    assert world.mix == {first: 2}
    assert world.users.answered[second] == 0


async def test_preview_shows_what_serves_once_nothing_is_tried() -> None:
    world, _, second = await waiting(replicas=2)
    world.command("promote", second)
    await world.until(lambda: world.is_true("Ready"))
    await world.wait(60)
    preview = world.child("Service", "digits-preview")
    assert preview is not None
    assert preview["spec"]["selector"] == pod_selector("digits", second)


async def test_preview_goes_with_the_strategy() -> None:
    world, _, second = await waiting(replicas=1)
    world.command("promote", second)
    await world.until(lambda: world.is_true("Ready"))
    world.patch(rollout={})
    await world.wait(60)
    assert world.child("Service", "digits-preview") is None


async def test_switch_by_hand_waits_and_says_how_to_promote() -> None:
    world, first, second = await waiting(replicas=2)
    await world.wait(3600)
    assert world.mix == {first: 2}
    ready = world.condition("Ready")
    assert ready["reason"] == "WaitingForPromotion"
    assert f"pilothouse.dev/promote={second}" in ready["message"]
    world.command("promote", second)
    await world.until(lambda: world.is_true("Ready"), limit=60)
    assert world.mix == {second: 2}


async def test_old_revision_stays_whole_until_the_delay_ends() -> None:
    world, first = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout=blue_green(scaleDownDelay="10m"))
    await world.until(lambda: world.traffic == second)
    await world.wait(590)
    assert world.ready_pods(first) == 3
    await world.wait(60)
    assert world.ready_pods(first) == 0


async def test_way_back_within_the_delay_needs_no_new_pod() -> None:
    world, first = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout=blue_green(scaleDownDelay="10m"))
    await world.until(lambda: world.is_true("Ready"))
    pods = {pod["metadata"]["uid"] for pod in world.nodes.pods(first)}
    began = world.time
    world.patch(model=model("1"))
    await world.until(lambda: world.traffic == first)
    assert (world.time - began).total_seconds() <= 5
    assert {pod["metadata"]["uid"] for pod in world.nodes.pods(first)} == pods
    await world.until(lambda: world.is_true("Ready"))
    assert world.ready_pods(second) == 3, "and the way forward is kept as well"


async def test_way_back_does_not_wait_for_a_promotion_by_hand() -> None:
    world, first, second = await waiting(replicas=2)
    world.command("promote", second)
    await world.until(lambda: world.is_true("Ready"))
    world.patch(model=model("1"))
    await world.until(lambda: world.is_true("Ready"), limit=120)
    assert world.mix == {first: 2}


async def test_switch_waits_for_all_pods() -> None:
    world, first = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout=blue_green())
    world.fate(second, Fate(Kind.RUNNING))
    await world.wait(10)
    for pod in world.nodes.pods(second)[:2]:
        world.nodes.own_fates[pod["metadata"]["name"]] = Fate()
    async for _ in world.moves(60):
        assert world.mix == {first: 3}
    assert world.ready_pods(second) == 2


async def test_pod_lost_while_waiting_for_a_promotion_is_waited_for() -> None:
    world, first, second = await waiting(replicas=2)
    world.fate(second, Fate(Kind.PENDING))
    world.evict(world.nodes.pods(second)[0])
    await world.wait(30)
    world.command("promote", second)
    async for _ in world.moves(60):
        assert world.mix == {first: 2}
    world.fate(second, Fate())
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 2}


async def test_failed_green_leaves_blue_alone() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout=blue_green(progressDeadline="1m"))
    world.fate(second, Fate(Kind.RUNNING))
    async for _ in world.moves(200):
        assert world.mix == {first: 2}
    assert world.phase == "Failed"
    assert not world.nodes.pods(second)


async def test_pods_of_a_failure_are_kept_where_the_spec_says_so() -> None:
    world, first = await served(replicas=2)
    way = blue_green(progressDeadline="1m", onFailure="Pause")
    second = world.apply(model=model("2"), replicas=2, rollout=way)
    world.fate(second, Fate(Kind.RUNNING))
    await world.wait(3600)
    assert world.phase == "Failed"
    assert len(world.nodes.pods(second)) == 2
    assert world.mix == {first: 2}
    world.apply(model=model("1"), replicas=2, rollout=way)
    await world.wait(120)
    assert not world.nodes.pods(second)
