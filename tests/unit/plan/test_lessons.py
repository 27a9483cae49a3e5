"""What bit the users of other systems: each case that their bug reports tell, and that it does not happen here.

Cases of the weights' arithmetic are in test_weights.py and test_canary.py, those of the schema in tests/contract.
"""

from __future__ import annotations

import pytest

from pilothouse.plan.seen import Json
from tests.support.played_pods import Fate, Kind
from tests.support.played_traffic import Temper
from tests.support.world import World, model
from tests.unit.plan.given import (
    VALIDATION,
    analysis,
    blue_green,
    canary,
    in_force,
    in_step,
    pause,
    served,
    weight,
)


async def test_second_change_in_mid_canary_retires_the_middle_revision_and_starts_from_stable() -> None:
    # Given a canary of version 2 that half of the requests go to
    world, first, second = await in_step(1, canary(pause(50)), replicas=2)
    # When version 3 is asked for
    third = world.patch(model=model("3"))
    await world.until(lambda: world.rollout.get("revision") == third and in_force(world, 1), limit=300)
    # Then it is tried beside version 1, the last that was fully promoted
    assert world.mix == {first: 2, third: 2}
    assert world.status["stableRevision"] == first
    await world.wait(60)
    assert world.entry(second)["state"] == "Retired"
    assert not world.nodes.pods(second)
    assert world.status["history"][0]["outcome"] == "Superseded"


async def test_replicas_and_model_changed_together_are_one_change() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=4, rollout=canary(pause(20)))
    await world.until(lambda: in_force(world, 1))
    await world.wait(30)
    assert world.mix == {first: 4, second: 1}


@pytest.mark.parametrize("way", [canary(pause(50)), blue_green(autoPromote=False), {"surge": 1}, {}])
async def test_spec_back_to_stable_in_mid_rollout_is_fast_and_keeps_its_pods(way: Json) -> None:
    # Given a rollout of version 2 under way
    world, first = await served(replicas=3)
    pods = {pod["metadata"]["uid"] for pod in world.nodes.pods(first)}
    second = world.apply(model=model("2"), replicas=3, rollout=way)
    await world.until(lambda: world.ready_pods(second) > 0)
    # When version 1 is asked for again
    began = world.time
    world.patch(model=model("1"))
    await world.until(lambda: world.is_true("Ready"))
    # Then it is there without steps and, where there was room for both, without one new pod
    assert (world.time - began).total_seconds() < 20
    assert world.mix == {first: 3}
    if "surge" not in way:
        assert {pod["metadata"]["uid"] for pod in world.nodes.pods(first)} == pods
    await world.wait(60)
    assert world.child("Deployment", second) is None


async def test_abort_after_promotion_is_a_no_op() -> None:
    world, _, second = await in_step(1, canary(weight(50, "10s")), replicas=2)
    await world.until(lambda: world.is_true("Ready"))
    world.command("abort", second)
    await world.wait(120)
    assert world.is_true("Ready")
    assert world.mix == {second: 2}
    assert world.told("abort")["outcome"].startswith("ignored")


async def test_paused_and_complete_at_once_is_no_hot_loop() -> None:
    world, _ = await served(replicas=2)
    world.patch(paused=True)
    writes = dict(world.cluster.writes)
    calls = world.cluster.calls
    await world.wait(3600)
    assert world.is_true("Ready"), "nothing is held up: there is no rollout"
    assert world.cluster.calls - calls < 30
    assert world.cluster.writes["apply"] == writes["apply"]


async def test_change_while_paused_is_told_and_waits() -> None:
    world, first = await served(replicas=2)
    world.patch(paused=True)
    second = world.patch(model=model("2"))
    await world.wait(3600)
    assert world.mix == {first: 2}
    assert not world.nodes.pods(second)
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Ready")["reason"] == "Paused"
    world.patch(paused=False)
    await world.until(lambda: world.is_true("Ready"), limit=120)
    assert world.mix == {second: 2}


async def test_promote_while_paused_by_command_unpauses() -> None:
    world, _, second = await in_step(1, canary(pause(20), pause(50)), replicas=4)
    world.command("pause", second)
    await world.wait(60)
    world.command("promote", second)
    await world.until(lambda: in_force(world, 2), limit=60)
    assert not world.rollout.get("held")
    assert world.condition("Ready")["reason"] == "WaitingForPromotion"


async def test_scaled_while_updating_the_canary_is_never_above_what_is_asked_for_nor_stranded() -> None:
    world, first = await served(replicas=6)
    second = world.apply(model=model("2"), replicas=6, rollout=canary(weight(50, "60s"), weight(80, "60s")))
    await world.until(lambda: world.pods_asked(second) == 6)
    world.scale(2)
    for _ in range(5):
        await world.one_pass()
    assert world.pods_asked(second) <= 2
    await world.until(lambda: world.is_true("Ready"), limit=600)
    assert world.mix == {second: 2}
    assert first != second


@pytest.mark.parametrize("share", [1, 20, 50, 80, 99])
async def test_autoscaler_that_shrinks_in_a_canary_leaves_pods_on_both_sides(share: int) -> None:
    world, first, second = await in_step(1, canary(pause(share)), replicas=6)
    for replicas in (3, 1):
        world.scale(replicas)
        async for _ in world.moves(60):
            assert world.ready_pods(first) >= replicas
            assert world.behind_traffic >= replicas
        assert world.behind(first) >= 1
        assert world.behind(second) >= 1


async def test_stable_that_is_scaled_slowly_never_lets_the_canary_have_more_than_its_share() -> None:
    # Given a step of 20%, one pod beside four
    world, first, second = await in_step(1, canary(pause(20)), replicas=4)
    # When the model is scaled up and the new stable pods take long
    world.fate(first, Fate(Kind.PENDING))
    world.scale(12)
    await world.wait(60)
    # Then the canary has what belongs to twelve, not more, and goes back with them
    assert world.behind(first) == 4
    assert world.behind(second) <= 3
    world.scale(4)
    await world.wait(60)
    assert world.mix == {first: 4, second: 1}


@pytest.mark.parametrize("kind", [Kind.UNSCHEDULABLE, Kind.IMAGE_PULL_BACK_OFF, Kind.QUOTA, Kind.PENDING])
async def test_validation_job_that_cannot_start_is_not_a_success(kind: Kind) -> None:
    world, first = await served(replicas=1)
    second = world.apply(model=model("2"), replicas=1, rollout={"validation": VALIDATION})
    world.job_fate(second, Fate(kind))
    await world.wait(600)
    assert world.condition("Stalled")["reason"] == "ValidationNotDone"
    assert world.users.answered[second] == 0
    assert world.mix == {first: 1}


async def test_no_data_is_neither_bad_nor_good_and_does_not_block_for_ever() -> None:
    # Given a step whose revision gets no request that could be measured
    world, _, second = await in_step(1, canary(weight(20, "30s"), analysis=analysis()), replicas=4)
    world.users.rate = 0.0
    await world.wait(1200)
    told = world.rollout["analysis"]
    assert told.get("failed", 0) == 0
    assert world.phase == "Shifting"
    # When requests come again, then it goes on without anybody's help
    world.users.rate = 20.0
    await world.until(lambda: world.is_true("Ready"), limit=200)
    assert world.mix == {second: 4}


async def test_analysis_that_passes_while_pods_lack_promotes_nothing() -> None:
    world, first, second = await in_step(1, canary(weight(50, "60s"), analysis=analysis()), replicas=4)
    world.fate(second, Fate(Kind.PENDING))
    world.evict(world.nodes.pods(second)[0])
    await world.wait(300)
    assert world.rollout["analysis"]["passed"] > 0
    assert world.status["stableRevision"] == first
    assert world.behind(first) == 4
    world.fate(second, Fate())
    await world.until(lambda: world.is_true("Ready"))


@pytest.mark.parametrize(
    "way",
    [canary(pause(20)), canary(pause(0), analysis=analysis()), blue_green(autoPromote=False), {"surge": 1}],
)
async def test_bad_stable_revision_never_holds_up_its_fix(way: Json) -> None:
    # Given a model that serves nobody
    world, first = await served(replicas=3)
    world.fate(first, Fate(Kind.CRASH, "boom"))
    world.nodes.settle()
    await world.wait(30)
    assert not world.mix
    # When a fix is applied, then it serves as soon as it can, whatever gates there are
    second = world.apply(model=model("2"), replicas=3, rollout=way)
    await world.until(lambda: world.behind(second) > 0, limit=60)
    await world.until(lambda: world.is_true("Ready"), limit=60)
    assert world.mix == {second: 3}


async def test_abort_does_not_wait_for_a_candidate_that_is_not_ready() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout=canary(pause(50)))
    world.fate(second, Fate(Kind.UNSCHEDULABLE))
    await world.wait(30)
    world.command("abort", second)
    await world.until(lambda: world.phase == "Failed", limit=5)
    await world.wait(60)
    assert not world.nodes.pods(second)
    assert world.mix == {first: 2}


@pytest.mark.parametrize("share", [20, 50, 80, 100])
async def test_weights_after_an_abort_are_never_negative_nor_beyond_all(share: int) -> None:
    world, first, second = await in_step(1, canary(pause(share)), replicas=3)
    world.command("abort", second)
    async for _ in world.moves(60):
        weights = [entry.get("weight", 0) for entry in world.status["revisions"]]
        assert all(0 <= given <= 100 for given in weights)
        assert sum(weights) in (0, 99, 100, 101)
    assert world.entry(first)["weight"] == 100
    assert world.entry(second).get("weight", 0) == 0


async def test_deadline_stands_still_while_paused() -> None:
    # Given a rollout with a deadline of two minutes, one of which is over, that waits for pods
    world, first = await served(replicas=1)
    second = world.apply(model=model("2"), replicas=1, rollout={"progressDeadline": "2m"})
    world.fate(second, Fate(Kind.PENDING))
    await world.wait(60)
    # When it is paused for an hour
    world.patch(paused=True)
    await world.wait(3600)
    assert world.phase == "Progressing"
    # Then it still has its other minute
    world.patch(paused=False)
    await world.wait(40)
    assert world.phase == "Progressing"
    await world.wait(40)
    assert world.phase == "Failed"
    assert world.mix == {first: 1}


@pytest.mark.parametrize("way", [{}, canary(weight(50, "10s")), blue_green(), {"surge": 1}])
async def test_old_pods_stay_30_seconds_after_a_switch_and_after_the_way_back(way: Json) -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2, rollout=way)
    await world.until(lambda: world.traffic == second)
    kept = world.ready_pods(first)
    await world.wait(28)
    assert world.ready_pods(first) == kept
    await world.wait(60)
    assert world.ready_pods(first) == 0
    world.patch(model=model("1"))
    await world.until(lambda: world.traffic == first)
    kept = world.ready_pods(second)
    await world.wait(28)
    assert world.ready_pods(second) == kept


async def test_candidate_that_is_aborted_keeps_its_pods_until_its_connections_have_ended() -> None:
    world, _, second = await in_step(1, canary(pause(50)), replicas=2)
    world.command("abort", second)
    await world.until(lambda: world.behind(second) == 0)
    await world.wait(28)
    assert world.ready_pods(second) == 2
    await world.wait(30)
    assert world.ready_pods(second) == 0


@pytest.mark.parametrize("way", [canary(pause(50)), canary(pause(20)), {}, blue_green()])
async def test_candidate_that_is_replaced_keeps_its_pods_until_its_connections_have_ended(way: Json) -> None:
    # Given a canary that gets requests
    world, _, second = await in_step(1, canary(pause(50)), replicas=2)
    # When the spec asks for another revision, and perhaps for another way
    world.patch(model=model("3"), rollout=way)
    await world.until(lambda: world.behind(second) == 0)
    # Then what it was doing can end
    await world.wait(28)
    assert world.ready_pods(second) == 2
    await world.wait(30)
    assert world.ready_pods(second) == 0


@pytest.mark.parametrize("seconds", [1, 60, 3600])
async def test_operator_that_is_away_in_mid_promotion_resets_nothing(seconds: float) -> None:
    # Given a canary whose last step is over, on its way to all requests
    world, first, second = await in_step(1, canary(weight(50, "30s")), replicas=4)
    await world.until(lambda: world.phase in ("Promoting", "Switching"), limit=60)
    shares = dict(world.mix)
    # When the operator is away for some time
    world.sleep(seconds)
    assert dict(world.mix) == shares, "serving does not depend on the operator"
    world.start_operator()
    # Then it goes on where it was, and promotes once
    async for _ in world.moves(120):
        assert world.behind_traffic >= 4
        assert world.mix[second] >= shares[second]
    assert world.mix == {second: 4}
    outcomes = [h["outcome"] for h in world.status["history"] if h["revision"] == second]
    assert outcomes == ["Promoted"]
    assert first != second


async def test_selectors_of_revisions_are_their_own_and_never_change() -> None:
    world, first, second = await in_step(1, canary(pause(80)), replicas=2)
    selectors = {}
    for name in (first, second):
        deployment = world.child("Deployment", name)
        assert deployment is not None
        selectors[name] = deployment["spec"]["selector"]["matchLabels"]
        # Other labels of its pods move them in and out of the mix; these do not change, so it always owns them.
        assert "pilothouse.dev/serving" not in selectors[name]
    assert selectors[first] != selectors[second]
    world.command("promote", second, "full")
    await world.until(lambda: world.is_true("Ready"))
    after = world.child("Deployment", second)
    assert after is not None
    assert after["spec"]["selector"]["matchLabels"] == selectors[second]


async def test_one_replica_without_surge_is_said_to_be_an_outage() -> None:
    world, first = await served(replicas=1)
    world.apply(model=model("2"), replicas=1, rollout={"surge": 0})
    gone = False
    async for _ in world.moves(60):
        if not world.mix:
            gone = True
            assert world.condition("Available")["status"] == "False" or world.ready_pods(first) == 0
    assert gone
    assert world.is_true("Ready")


async def test_ready_is_never_said_of_what_another_generation_asked_for() -> None:
    world, _ = await served(replicas=2)
    ways = [canary(weight(50, "10s")), blue_green(), {"surge": 1}, {}]
    for version, way in enumerate(ways, start=2):
        asked = world.apply(model=model(str(version)), replicas=2, rollout=way)
        async for _ in world.moves(120):
            status = world.status
            if status["observedGeneration"] == world.body["metadata"]["generation"] and world.is_true(
                "Ready"
            ):
                assert set(world.mix) == {asked}
        assert world.is_true("Ready")


async def test_slow_answers_of_both_are_no_reason_to_fail_the_new_one() -> None:
    # Given a bound on how much slower the new revision may be, and a slow day for both
    judged = analysis(maxErrorRate=None, maxLatencyP99Increase="50%")
    world, first, second = await in_step(1, canary(weight(50, "60s"), analysis=judged), replicas=2)
    world.temper(first, Temper(seconds=0.9))
    world.temper(second, Temper(seconds=0.9))
    await world.until(lambda: world.is_true("Ready"), limit=300)
    assert world.mix == {second: 2}


async def test_status_fits_its_generation_from_the_first_write_on() -> None:
    world = World()
    world.apply(model=model("1"), rollout=canary(pause(20)))
    await world.until(lambda: world.is_true("Ready"))
    world.patch(model=model("2"))
    await world.wait(60)
    for status in world.statuses:
        for condition in status["conditions"]:
            assert condition["observedGeneration"] == status["observedGeneration"]


async def test_canary_that_failed_and_is_replaced_at_once_still_has_time_to_end_its_connections() -> None:
    # Given a canary that was just given up, and had requests until then
    world, first, second = await in_step(1, canary(pause(50)), replicas=2)
    world.command("abort", second)
    await world.until(lambda: world.mix == {first: 2})
    # When the spec is put right within seconds, as GitOps tools do
    world.patch(model=model("3"))
    await world.wait(25)
    # Then what it was doing can end
    assert world.ready_pods(second) == 2
    await world.wait(30)
    assert world.ready_pods(second) == 0
