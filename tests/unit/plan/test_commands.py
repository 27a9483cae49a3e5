"""What people can ask for by annotation, and that it is done once, told as short stories."""

from __future__ import annotations

import pytest

from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model
from tests.unit.plan.given import VALIDATION, blue_green, canary, in_force, in_step, pause, served, weight

STEPS = canary(pause(20), pause(50), pause(80))


async def failed(world: World, **spec: object) -> str:
    """Roll out a version 2 that fails; return its name."""
    second = world.apply(model=model("2"), **spec)
    world.fate(second, Fate(Kind.CRASH, "boom"))
    await world.until(lambda: world.phase == "Failed")
    return second


async def test_promote_ends_one_step_and_no_more() -> None:
    world, first, second = await in_step(1, STEPS, replicas=4)
    world.command("promote", second)
    await world.until(lambda: in_force(world, 2))
    await world.wait(600)
    assert world.rollout["step"] == 2
    assert world.mix == {first: 4, second: 4}
    assert world.told("promote")["value"] == second


async def test_same_command_counts_again_with_another_word_or_after_it_was_taken_back() -> None:
    world, _, second = await in_step(1, STEPS, replicas=2)
    world.command("promote", second, "1")
    await world.until(lambda: in_force(world, 2))
    world.command("promote", second, "2")
    await world.until(lambda: in_force(world, 3))
    world.take_back("promote")
    await world.wait(10)
    assert world.told("promote") == {}
    world.command("promote", second, "2")
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 2}


async def test_promote_in_full_skips_all_that_is_left() -> None:
    world, first, second = await in_step(1, STEPS, replicas=4)
    world.command("promote", second, "full")
    async for _ in world.moves(60):
        assert world.behind(first) == 4 or world.traffic == second
    assert world.is_true("Ready")
    assert world.mix == {second: 4}


async def test_promote_in_full_skips_the_validation_but_not_the_pods() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout={"validation": VALIDATION})
    world.job_fate(second, Fate(Kind.PENDING))
    await world.until(lambda: world.phase == "Validating")
    world.fate(second, Fate(Kind.RUNNING))
    world.nodes.settle()
    world.command("promote", second, "full")
    await world.wait(30)
    assert world.mix == {first: 2}
    world.fate(second, Fate())
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 2}


@pytest.mark.parametrize("command", ["promote", "abort", "pause", "resume", "retry"])
async def test_command_for_another_revision_does_nothing_and_says_so(command: str) -> None:
    world, first, second = await in_step(1, STEPS, replicas=2)
    for other in (first, "digits-0123456789", "", "nonsense: :"):
        world.command(command, other)
        await world.wait(60)
        assert (world.phase, world.rollout["step"]) == ("Shifting", 1)
        assert world.mix == {first: 2, second: 1}
        assert world.told(command)["outcome"].startswith("ignored")


async def test_command_left_behind_does_nothing_to_the_next_rollout() -> None:
    world, _, second = await in_step(1, STEPS, replicas=2)
    world.command("promote", second, "full")
    await world.until(lambda: world.is_true("Ready"))
    third = world.apply(model=model("3"), replicas=2, rollout=STEPS)
    await world.until(lambda: in_force(world, 1))
    await world.wait(3600)
    assert world.rollout["step"] == 1
    assert world.mix == {second: 2, third: 1}


async def test_command_is_not_carried_out_again_by_a_new_operator() -> None:
    world, _, second = await in_step(1, STEPS, replicas=2)
    world.command("promote", second)
    await world.until(lambda: in_force(world, 2))
    world.start_operator()
    await world.wait(60)
    assert world.rollout["step"] == 2


async def test_abort_gives_all_requests_back_and_takes_the_pods_away() -> None:
    world, first, second = await in_step(1, STEPS, replicas=2)
    world.command("abort", second)
    await world.until(lambda: world.phase == "Failed", limit=5)
    await world.wait(5)
    assert world.mix == {first: 2}
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "Aborted")
    assert world.status["history"][0]["outcome"] == "Aborted"
    await world.wait(60)
    assert not world.nodes.pods(second)
    await world.wait(3600)
    assert world.phase == "Failed", "the spec still asks for it, but nobody tries it again"


async def test_first_revision_cannot_be_aborted_as_there_is_nothing_to_go_back_to() -> None:
    world = World()
    first = world.apply(model=model("1"))
    world.fate(first, Fate(Kind.RUNNING))
    await world.wait(10)
    world.command("abort", first)
    await world.wait(10)
    assert world.told("abort")["outcome"].startswith("ignored")
    world.fate(first, Fate())
    await world.until(lambda: world.is_true("Ready"))


async def test_retry_tries_a_failed_revision_with_new_pods() -> None:
    world, first = await served(replicas=2)
    second = await failed(world, replicas=2)
    pods = {pod["metadata"]["uid"] for pod in world.nodes.pods(second)}
    world.fate(second, Fate())
    world.command("retry", second)
    async for _ in world.moves(120):
        assert world.behind(first) == 2 or world.traffic == second
        if world.is_true("Ready"):
            break
    assert world.mix == {second: 2}
    assert not pods & {pod["metadata"]["uid"] for pod in world.nodes.pods(second)}
    assert [h["outcome"] for h in world.status["history"][:2]] == ["Promoted", "Failed"]


async def test_retry_validates_and_steps_from_the_beginning() -> None:
    world, first, second = await in_step(
        2, canary(weight(20, "10s"), pause(50), validation=VALIDATION), replicas=2
    )
    world.command("abort", second)
    await world.until(lambda: world.phase == "Failed")
    world.command("retry", second)
    phases = []
    async for _ in world.moves(120):
        if in_force(world, 1):
            break
        assert world.mix[second] == 0 or world.phase == "Shifting"
        phases.append(world.phase)
    assert "Validating" in phases
    assert world.rollout["step"] == 1
    assert world.mix == {first: 2, second: 1}


async def test_retry_of_what_runs_or_serves_does_nothing() -> None:
    world, first = await served(replicas=1)
    world.command("retry", first)
    await world.wait(10)
    assert world.told("retry")["outcome"].startswith("ignored")
    assert world.mix == {first: 1}


async def test_retry_that_fails_again_ends_as_before() -> None:
    world, first = await served(replicas=1)
    second = await failed(world, replicas=1)
    world.command("retry", second)
    await world.until(lambda: world.phase != "Failed")
    await world.until(lambda: world.phase == "Failed")
    await world.wait(120)
    assert world.mix == {first: 1}
    assert world.is_true("Stalled")
    assert not world.nodes.pods(second)


async def test_pause_holds_a_step_and_resume_lets_it_last_as_long_as_it_should() -> None:
    world, _, second = await in_step(1, canary(weight(20, "60s"), pause(50)), replicas=4)
    await world.wait(20)
    world.command("pause", second)
    await world.wait(3600)
    assert world.rollout["step"] == 1
    assert world.condition("Ready")["reason"] == "Paused"
    assert f"pilothouse.dev/resume={second}" in world.condition("Ready")["message"]
    world.command("resume", second)
    began = world.time
    await world.until(lambda: world.rollout.get("step") == 2)
    assert 30 <= (world.time - began).total_seconds() <= 50, "20 of its 60 seconds were over"


async def test_paused_rollout_can_be_aborted() -> None:
    world, first, second = await in_step(1, STEPS, replicas=2)
    world.command("pause", second)
    await world.wait(10)
    world.command("abort", second)
    await world.wait(10)
    assert world.phase == "Failed"
    assert world.mix == {first: 2}


async def test_paused_rollout_whose_pods_crash_still_fails() -> None:
    world, first, second = await in_step(1, STEPS, replicas=2)
    world.command("pause", second)
    await world.wait(10)
    world.fate(second, Fate(Kind.CRASH, "boom"))
    world.nodes.settle()
    await world.wait(60)
    assert world.phase == "Failed"
    assert world.mix == {first: 2}


async def test_abort_and_promote_at_once_aborts() -> None:
    world, first, second = await in_step(1, STEPS, replicas=2)
    world.command("promote", second, "full")
    world.command("abort", second)
    await world.wait(120)
    assert world.phase == "Failed"
    assert world.mix == {first: 2}


async def test_commands_never_touch_the_object_that_carries_them() -> None:
    world, _, second = await in_step(1, STEPS, replicas=2)
    world.command("promote", second, "full")
    before = world.body
    await world.until(lambda: world.is_true("Ready"))
    after = world.body
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]


async def test_promote_while_waiting_with_blue_and_green() -> None:
    world, _ = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout=blue_green(autoPromote=False))
    world.command("promote", second)
    await world.wait(120)
    assert world.phase == "AwaitingPromotion", "there was nothing to end yet when it was said"
    assert world.told("promote")["outcome"].startswith("ignored")
    world.command("promote", second, "now")
    await world.until(lambda: world.is_true("Ready"), limit=60)
    assert world.mix == {second: 2}
