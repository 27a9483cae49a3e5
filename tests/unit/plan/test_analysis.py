"""How the requests of a new revision are judged while it gets a share of them, told as short stories."""

from __future__ import annotations

import pytest

from tests.support.played_traffic import Temper
from tests.support.world import World, model
from tests.unit.plan.given import analysis, canary, in_force, in_step, pause, served, weight

BAD = Temper(errors=0.5)


async def stepping(
    temper: Temper, *, rate: float = 20.0, lasts: str = "60s", **judged: object
) -> tuple[World, str, str]:
    """Return a world in which version 2, which answers so, is in the first of two steps."""
    world, first = await served(replicas=4)
    way = canary(weight(20, lasts), pause(50), analysis=analysis(**judged))
    second = world.apply(model=model("2"), replicas=4, rollout=way)
    world.temper(second, temper)
    world.users.rate = rate
    await world.until(lambda: in_force(world, 1))
    return world, first, second


async def test_good_answers_let_the_step_end_in_its_time() -> None:
    world, first, second = await stepping(Temper(errors=0.01))
    await world.until(lambda: in_force(world, 2), limit=90)
    assert world.rollout["analysis"]["passed"] >= 4
    assert world.rollout["analysis"].get("failed", 0) == 0
    assert world.mix == {first: 4, second: 4}


async def test_bad_answers_fail_the_rollout_at_the_limit_and_no_sooner() -> None:
    world, first, second = await stepping(BAD, failureLimit=3)
    began = world.time
    await world.until(lambda: world.phase == "Failed", limit=120)
    assert 30 <= (world.time - began).total_seconds() <= 45, "three intervals of 10 s"
    await world.wait(5)
    assert world.mix == {first: 4}
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "AnalysisFailed"
    assert "50" in stalled["message"]
    assert "5%" in stalled["message"]
    assert world.entry(second)["state"] == "Failed"


async def test_few_requests_are_inconclusive_and_the_window_goes_on() -> None:
    # 0.2 requests a second to the candidate: 20 of them take 100 s, not one interval of 10 s.
    world, _, _ = await stepping(Temper(), rate=1.0, lasts="30s")
    await world.wait(60)
    told = world.rollout["analysis"]
    assert (told.get("passed", 0), told.get("failed", 0)) == (0, 0)
    assert world.rollout["step"] == 1
    assert world.condition("Ready")["reason"] == "AnalysisInconclusive"
    await world.until(lambda: in_force(world, 2), limit=90)


async def test_no_request_at_all_waits_and_can_be_promoted_by_hand() -> None:
    world, first, second = await stepping(Temper(), rate=0.0, lasts="30s")
    await world.wait(3600)
    assert world.mix == {first: 4, second: 1}
    assert world.condition("Ready")["reason"] == "AnalysisInconclusive"
    assert f"pilothouse.dev/promote={second}" in world.condition("Ready")["message"]
    world.command("promote", second)
    await world.until(lambda: in_force(world, 2), limit=60)


async def test_requests_that_come_back_let_it_go_on_by_itself() -> None:
    world, _, _ = await stepping(Temper(), rate=0.0, lasts="30s")
    await world.wait(600)
    world.users.rate = 20.0
    await world.until(lambda: in_force(world, 2), limit=60)


async def test_inconclusive_end_is_a_failure_where_the_spec_says_so() -> None:
    world, first, _ = await stepping(Temper(), rate=0.0, lasts="30s", onInconclusive="Rollback")
    await world.until(lambda: world.phase == "Failed", limit=60)
    await world.wait(5)
    assert world.mix == {first: 4}
    assert world.condition("Stalled")["reason"] == "AnalysisInconclusive"


async def test_inconclusive_end_goes_on_where_the_spec_says_so() -> None:
    world, _, _ = await stepping(Temper(), rate=0.0, lasts="30s", onInconclusive="Promote")
    await world.until(lambda: in_force(world, 2), limit=60)


async def test_step_does_not_end_on_a_bad_measurement_whatever_is_said_of_inconclusive_ones() -> None:
    world, _, second = await stepping(BAD, lasts="15s", failureLimit=1000, onInconclusive="Promote")
    await world.wait(600)
    assert world.rollout["step"] == 1
    world.temper(second, Temper())
    await world.until(lambda: in_force(world, 2), limit=60)


async def test_one_bad_measurement_is_forgiven_below_the_limit() -> None:
    world, _, second = await stepping(BAD, failureLimit=3)
    await world.until(lambda: world.rollout["analysis"].get("failed") == 1)
    world.temper(second, Temper())
    await world.until(lambda: in_force(world, 2), limit=120)
    assert world.rollout["analysis"]["failed"] == 1, "but it is not forgotten in this rollout"


async def test_slow_answers_are_bad() -> None:
    world, _, _ = await stepping(Temper(seconds=0.6), maxErrorRate=None, maxLatencyP99="250ms")
    await world.until(lambda: world.phase == "Failed", limit=60)
    assert "250ms" in world.condition("Stalled")["message"]


@pytest.mark.parametrize(("seconds", "ends"), [(0.02, "Shifting"), (0.4, "Failed")])
async def test_latency_is_compared_with_that_of_the_stable_revision(seconds: float, ends: str) -> None:
    world, first, _ = await stepping(
        Temper(seconds=seconds), maxErrorRate=None, maxLatencyP99Increase="50%", lasts="30s"
    )
    world.temper(first, Temper(seconds=0.02))
    await world.until(lambda: world.phase == "Failed" or in_force(world, 2), limit=120)
    assert world.phase == ends


async def test_stable_revision_without_data_leaves_the_comparison_open() -> None:
    world, first, _ = await stepping(
        Temper(seconds=0.4), maxErrorRate=None, maxLatencyP99Increase="50%", lasts="30s"
    )
    world.users.silent.add(first)
    await world.wait(300)
    assert (world.phase, world.rollout["step"]) == ("Shifting", 1)
    assert world.rollout["analysis"].get("passed", 0) == 0


async def test_pods_that_give_no_metrics_are_no_good_news() -> None:
    world, _, second = await stepping(Temper(), lasts="30s")
    world.users.silent.add(second)
    passed = world.rollout["analysis"].get("passed", 0)
    await world.wait(600)
    assert world.rollout["step"] == 1
    assert world.rollout["analysis"].get("passed", 0) == passed


async def test_prometheus_is_asked_and_silence_is_inconclusive() -> None:
    query = {"name": "drift", "query": "drift{revision='$(revision)'}", "max": 0.1}
    world, _, _ = await stepping(Temper(), lasts="30s", maxErrorRate=None, prometheus=[query])
    await world.wait(120)
    assert world.rollout["step"] == 1
    world.users.answers["drift"] = 0.05
    await world.until(lambda: in_force(world, 2), limit=60)
    world.users.answers["drift"] = 0.2
    await world.until(lambda: world.phase == "Failed", limit=60)
    assert "drift is 0.2" in world.condition("Stalled")["message"]


async def test_measurements_go_on_while_a_step_waits_for_a_promotion() -> None:
    world, first, second = await in_step(1, canary(pause(50), analysis=analysis()), replicas=2)
    await world.wait(600)
    world.temper(second, BAD)
    await world.until(lambda: world.phase == "Failed", limit=120)
    await world.wait(5)
    assert world.mix == {first: 2}


async def test_measurements_go_on_while_the_rollout_is_paused() -> None:
    world, first, second = await in_step(1, canary(pause(50), analysis=analysis()), replicas=2)
    world.patch(paused=True)
    await world.wait(60)
    world.temper(second, BAD)
    await world.until(lambda: world.phase == "Failed", limit=120)
    await world.wait(5)
    assert world.mix == {first: 2}


async def test_new_operator_measures_anew_and_judges_nothing_by_what_it_did_not_see() -> None:
    world, _, _ = await stepping(Temper(), lasts="90s")
    await world.wait(25)
    world.start_operator()
    await world.until(lambda: in_force(world, 2), limit=120)
    assert world.rollout["analysis"].get("failed", 0) == 0


async def test_step_that_gives_no_requests_has_nothing_to_measure() -> None:
    world, first = await served(replicas=2)
    way = canary(weight(0, "30s"), pause(50), analysis=analysis())
    second = world.apply(model=model("2"), replicas=2, rollout=way)
    await world.until(lambda: in_force(world, 2), limit=120)
    assert world.mix == {first: 2, second: 2}


async def test_last_measurement_is_shown_for_both_revisions() -> None:
    world, first, second = await stepping(Temper(errors=0.01), lasts="10m")
    await world.wait(60)
    assert world.entry(second)["requestRate"] == "4/s"
    assert world.entry(first)["requestRate"] == "16/s"
    assert world.entry(second)["latencyP99"]


async def test_measuring_writes_no_more_than_once_an_interval() -> None:
    world, _, _ = await stepping(Temper(), lasts="20m")
    before = world.cluster.writes["status"]
    await world.wait(600)
    assert world.cluster.writes["status"] - before <= 61
