"""How a canary rollout gives a new revision more and more of the requests, told as short stories."""

from __future__ import annotations

import pytest

from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model
from tests.unit.plan.given import canary, in_step, pause, served, weight


async def test_first_revision_has_nothing_to_share_with_and_skips_the_steps() -> None:
    world = World()
    first = world.apply(model=model("1"), replicas=2, rollout=canary(weight(20, "5m"), pause()))
    await world.until(lambda: world.is_true("Ready"), limit=60)
    assert world.mix == {first: 2}


async def test_steps_come_one_after_the_other_and_end_with_the_new_revision_alone() -> None:
    world, first = await served(replicas=4)
    steps = canary(weight(20, "60s"), weight(50, "60s"))
    second = world.apply(model=model("2"), replicas=4, rollout=steps)
    seen = []
    async for _ in world.moves(600):
        shares = (world.behind(first), world.behind(second))
        if not seen or seen[-1] != shares:
            seen.append(shares)
    assert seen == [(4, 0), (4, 1), (4, 4), (0, 4)]
    assert world.is_true("Ready")
    assert world.status["history"][0]["outcome"] == "Promoted"


@pytest.mark.parametrize(
    ("replicas", "share", "old", "new"),
    [
        (4, 20, 4, 1),
        (4, 1, 4, 1),
        (2, 20, 2, 1),  # 0.5 pods: a tie goes to the canary
        (10, 25, 10, 3),
        (4, 50, 4, 4),
        (10, 80, 2, 10),
        (4, 99, 1, 4),
        (1, 5, 1, 1),
        (1, 95, 1, 1),
        (5, 0, 5, 0),
        (5, 100, 0, 5),
    ],
)
async def test_weight_becomes_the_nearest_whole_number_of_pods(
    replicas: int, share: int, old: int, new: int
) -> None:
    world, first, second = await in_step(1, canary(pause(share)), replicas=replicas)
    await world.wait(30)
    assert (world.behind(first), world.behind(second)) == (old, new)
    assert world.ready_pods(first) == replicas, "the way back never waits for a pod"
    assert world.rollout["weight"] == share
    assert world.rollout.get("weightReached", 0) == round(100 * new / (old + new))


async def test_weight_0_brings_up_one_pod_that_gets_no_request() -> None:
    world, _, second = await in_step(1, canary(pause(0)), replicas=3)
    await world.wait(120)
    assert world.ready_pods(second) == 1
    assert world.users.answered[second] == 0


async def test_step_lasts_from_the_moment_its_pods_get_requests() -> None:
    world, first = await served(replicas=4)
    second = world.apply(model=model("2"), replicas=4, rollout=canary(weight(20, "60s"), weight(50, "60s")))
    world.fate(second, Fate(Kind.RUNNING))
    await world.wait(100)
    assert world.mix == {first: 4}
    world.fate(second, Fate())
    await world.until(lambda: world.behind(second) == 1)
    began = world.time
    await world.until(lambda: world.behind(second) > 1)
    assert 60 <= (world.time - began).total_seconds() <= 75


async def test_last_step_keeps_its_share_until_the_new_revision_has_all_its_pods() -> None:
    world, first, second = await in_step(1, canary(weight(20, "30s")), replicas=4)
    # No more than the one pod of the step comes up: the rest stay unready.
    await world.until(lambda: world.phase == "Promoting", limit=120)
    world.fate(second, Fate(Kind.PENDING))
    async for _ in world.moves(120):
        assert world.behind(first) == 4
        assert world.status["stableRevision"] == first
    world.fate(second, Fate())
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 4}


async def test_share_of_the_requests_is_what_the_weight_says() -> None:
    world, first, second = await in_step(1, canary(pause(20)), replicas=4)
    before, lost = dict(world.users.answered), world.users.lost
    await world.wait(600)
    got = {name: world.users.answered[name] - before.get(name, 0) for name in (first, second)}
    assert got[second] / sum(got.values()) == pytest.approx(0.2, abs=0.01)
    assert world.users.lost == lost


async def test_weight_beyond_half_takes_stable_pods_out_of_the_mix_and_puts_them_back() -> None:
    world, first, second = await in_step(2, canary(weight(80, "10s"), pause(20)), replicas=4)
    await world.wait(30)
    assert world.mix == {first: 4, second: 1}
    assert {p["metadata"]["labels"]["pilothouse.dev/serving"] for p in world.nodes.pods(first)} == {"true"}


async def test_abort_at_80_percent_gives_all_stable_pods_their_requests_back_at_once() -> None:
    world, first, second = await in_step(1, canary(pause(80)), replicas=5)
    assert world.mix[first] < 5
    world.command("abort", second)
    await world.one_pass()
    await world.one_pass()
    assert world.mix == {first: 5}, "no pod had to be waited for"


async def test_pause_step_waits_for_as_long_as_it_takes() -> None:
    world, first, second = await in_step(1, canary(pause(20), weight(50, "30s")), replicas=4)
    await world.wait(5 * 3600)
    assert world.mix == {first: 4, second: 1}
    assert world.condition("Ready")["reason"] == "WaitingForPromotion"
    assert second in world.condition("Ready")["message"], "it says what to annotate"
    writes = dict(world.cluster.writes)
    await world.wait(3600)
    assert dict(world.cluster.writes) == writes


async def test_step_without_a_weight_keeps_the_one_before() -> None:
    world, first, second = await in_step(2, canary(weight(50, "10s"), pause()), replicas=2)
    await world.wait(60)
    assert world.mix == {first: 2, second: 2}


async def test_mix_waits_until_pods_of_a_third_revision_are_gone() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout={"scaleDownDelay": "1h"})
    await world.until(lambda: world.traffic == second)
    third = world.apply(model=model("3"), replicas=2, rollout=canary(pause(50), scaleDownDelay="1h"))
    async for _ in world.moves(300):
        if world.traffic == "mixed":
            assert first not in world.mix
    assert world.mix == {second: 2, third: 2}


async def test_candidate_whose_pods_crash_in_a_step_fails_and_the_stable_one_serves() -> None:
    world, first, second = await in_step(1, canary(pause(50)), replicas=2)
    world.fate(second, Fate(Kind.CRASH, "boom"))
    await world.until(lambda: world.phase == "Failed")
    await world.wait(10)
    assert world.mix == {first: 2}
    assert world.condition("Stalled")["reason"] == "CrashLooping"
    await world.wait(60)
    assert not world.nodes.pods(second)


async def test_candidate_that_lacks_a_pod_does_not_move_on() -> None:
    world, _, second = await in_step(1, canary(weight(50, "30s"), pause(80)), replicas=4)
    for pod in world.nodes.pods(second)[:2]:
        world.evict(pod)
    world.fate(second, Fate(Kind.PENDING))
    await world.wait(120)
    assert world.rollout["step"] == 1
    world.fate(second, Fate())
    await world.until(lambda: world.rollout.get("step") == 2, limit=60)


async def test_steps_changed_under_way_begin_anew() -> None:
    world, first, second = await in_step(2, canary(weight(20, "10s"), pause(50)), replicas=4)
    world.patch(rollout=canary(pause(0), weight(50, "10s")))
    for _ in range(4):
        await world.one_pass()
        world.nodes.step()
    await world.until(lambda: world.rollout.get("step") == 1 and bool(world.rollout.get("reached")))
    await world.wait(30)
    assert world.mix == {first: 4}
    assert world.ready_pods(second) == 1


async def test_change_of_steps_never_gives_the_candidate_more_than_either_asks_for() -> None:
    world, first, second = await in_step(1, canary(pause(0)), replicas=4)
    world.patch(rollout=canary(pause(20)))
    async for _ in world.moves(60):
        assert world.behind(second) <= 1
        assert world.behind(first) == 4


async def test_change_of_strategy_opens_nothing_by_itself() -> None:
    world, first, second = await in_step(1, canary(pause(0)), replicas=2)
    world.patch(rollout={"strategy": "BlueGreen", "autoPromote": False})
    async for _ in world.moves(120):
        assert world.mix == {first: 2}
    assert world.phase == "AwaitingPromotion"
    assert world.ready_pods(second) == 2


async def test_preview_is_for_blue_and_green_only() -> None:
    world, _, _ = await in_step(1, canary(pause(20)), replicas=2)
    assert world.child("Service", "digits-preview") is None


async def test_change_of_steps_while_promoting_opens_nothing() -> None:
    # Given a candidate whose only step gave it nothing, and which comes up to full size
    world, first = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout=canary(weight(0, "30s")))
    await world.until(lambda: world.phase == "Promoting")
    world.fate(second, Fate(Kind.PENDING))
    # When its steps are changed, then they begin anew and it gets what they say, when they say it
    world.patch(rollout=canary(pause(80)))
    async for _ in world.moves(20):
        assert world.mix == {first: 3}
