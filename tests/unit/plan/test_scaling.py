"""How a model is scaled, by people and by an autoscaler, also in the middle of a rollout; told as short stories."""

from __future__ import annotations

import pytest

from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model
from tests.unit.plan.given import VALIDATION, blue_green, canary, in_force, in_step, pause, served, weight

AUTOSCALED = {"minReplicas": 2, "maxReplicas": 6, "target": {"concurrency": 8}}


async def test_autoscaler_is_made_and_scales_the_model_itself() -> None:
    world, first = await served(replicas=2, autoscaling=AUTOSCALED)
    scaler = world.child("HorizontalPodAutoscaler", "digits")
    assert scaler is not None
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "ModelDeployment"
    assert scaler["spec"]["scaleTargetRef"]["name"] == "digits"
    world.scale(5)
    await world.until(lambda: world.behind(first) == 5)
    assert world.body["spec"]["replicas"] == 5, "it is the autoscaler's, and nobody writes over it"


async def test_autoscaler_goes_when_it_is_no_longer_asked_for() -> None:
    world, first = await served(replicas=3, autoscaling=AUTOSCALED)
    world.apply(model=model("1"), replicas=3)
    await world.wait(30)
    assert not world.children("HorizontalPodAutoscaler")
    assert world.mix == {first: 3}


async def test_spec_without_replicas_starts_at_the_least_that_the_autoscaler_allows() -> None:
    world = World()
    first = world.apply(model=model("1"), autoscaling=AUTOSCALED)
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {first: 2}


async def test_canary_is_scaled_with_the_model_and_stable_first_of_all() -> None:
    world, first, second = await in_step(1, canary(pause(20)), replicas=4)
    world.scale(8)
    async for _ in world.moves(60):
        assert world.behind(first) >= 4
    assert world.mix == {first: 8, second: 2}
    world.scale(3)
    async for _ in world.moves(60):
        assert world.behind(first) >= 3
        assert world.behind(second) >= 1
    assert world.mix == {first: 3, second: 1}


@pytest.mark.parametrize("replicas", [1, 2, 5])
async def test_weight_beyond_half_is_kept_when_the_model_is_scaled(replicas: int) -> None:
    world, first, second = await in_step(1, canary(pause(80)), replicas=4)
    world.scale(replicas)
    await world.wait(60)
    assert world.ready_pods(first) == replicas
    assert world.behind(second) == replicas
    assert world.behind(first) >= 1


async def test_scaled_up_in_a_step_new_pods_are_waited_for_before_the_next() -> None:
    world, _, second = await in_step(1, canary(weight(50, "60s"), pause(80)), replicas=2)
    world.fate(second, Fate(Kind.PENDING))
    world.scale(4)
    await world.wait(200)
    assert world.rollout["step"] == 1
    world.fate(second, Fate())
    await world.until(lambda: in_force(world, 2), limit=60)


async def test_scaled_while_paused_all_pods_come_and_the_step_stays() -> None:
    world, first, second = await in_step(1, canary(pause(50)), replicas=2)
    world.patch(paused=True)
    await world.wait(10)
    world.scale(4)
    await world.wait(60)
    assert world.rollout["step"] == 1
    assert world.mix == {first: 4, second: 4}


async def test_scaled_while_blue_and_green_stand_side_by_side_both_are() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout=blue_green(autoPromote=False))
    await world.until(lambda: world.phase == "AwaitingPromotion")
    world.scale(4)
    await world.wait(60)
    assert world.ready_pods(first) == world.ready_pods(second) == 4
    world.command("promote", second)
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 4}


@pytest.mark.parametrize("way", [canary(pause(20)), blue_green(), {"validation": VALIDATION}])
async def test_rollout_of_nothing_waits_for_pods_to_try_it_with(way: dict[str, object]) -> None:
    world, first = await served(replicas=0)
    second = world.apply(model=model("2"), replicas=0, rollout=way)
    await world.wait(3600)
    if way.get("strategy") == "BlueGreen":
        assert world.status["stableRevision"] in (first, second)
    else:
        assert world.status["stableRevision"] == first, "nothing was tried yet"
        assert world.phase != "Failed"
    world.scale(2)
    await world.until(lambda: world.behind(second) > 0)
    assert world.phase != "Failed"


async def test_rolling_update_of_nothing_is_done_at_once() -> None:
    world, _ = await served(replicas=0)
    second = world.apply(model=model("2"), replicas=0)
    await world.until(lambda: world.is_true("Ready"), limit=60)
    assert world.status["stableRevision"] == second
    assert world.condition("Ready")["reason"] == "ScaledToZero"


async def test_scaled_to_zero_in_a_step_and_back_nobody_fails() -> None:
    world, first, second = await in_step(1, canary(pause(20)), replicas=2)
    world.scale(0)
    await world.wait(3600)
    assert world.phase == "Shifting"
    assert not world.nodes.pods(first)
    assert not world.nodes.pods(second)
    world.scale(3)
    await world.until(lambda: world.mix == {first: 3, second: 1})


async def test_budget_follows_the_revision_that_serves() -> None:
    world, first, second = await in_step(1, canary(pause(20)), replicas=2)
    budget = world.child("PodDisruptionBudget", "digits")
    assert budget is not None
    assert budget["spec"]["selector"]["matchLabels"]["pilothouse.dev/revision"] == first
    world.command("promote", second)
    await world.until(lambda: world.is_true("Ready"))
    await world.wait(60)
    budget = world.child("PodDisruptionBudget", "digits")
    assert budget is not None
    assert budget["spec"]["selector"]["matchLabels"]["pilothouse.dev/revision"] == second
    assert world.children("PodDisruptionBudget") == {"digits"}
