"""How a model moves from revision to revision, told as short stories."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pilothouse.plan.seen import Away
from pilothouse_runtime.contract import FailureReason, LastWords
from tests.support.played_nodes import Fate, Kind
from tests.support.world import World, model

LAST_WORDS = LastWords(FailureReason.DIGEST_MISMATCH, "the file has another digest", permanent=True).encode()


async def served(**spec: object) -> tuple[World, str]:
    """Return a world in which version 1 serves."""
    world = World()
    first = world.apply(model=model("1"), **spec)
    await world.settle()
    assert world.is_true("Ready")
    return world, first


async def test_first_model_is_served() -> None:
    world, first = await served(replicas=2)
    assert world.traffic == first
    assert world.behind_traffic == 2
    assert world.is_true("Available")
    assert world.status["stableRevision"] == world.status["targetRevision"] == first
    assert world.status["url"] == "http://digits.vision.svc"
    assert world.entry(first)["state"] == "Stable"
    assert world.status["history"][0]["outcome"] == "Promoted"


async def test_very_first_status_tells_every_waiter_to_wait() -> None:
    world = World()
    world.apply(model=model("1"))
    await world.one_pass()
    assert world.status["observedGeneration"] == 1
    assert world.condition("Ready")["status"] == "False"
    assert world.is_true("Reconciling")
    assert not world.is_true("Stalled")


async def test_next_version_takes_over_and_old_pods_stay_until_drained() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2)
    while world.traffic == first:
        assert world.ready_pods(first) == 2
        assert world.condition("Ready")["status"] == "False" or world.status["observedGeneration"] == 1
        await world.one_pass()
        world.nodes.step()
    assert world.ready_pods(second) == 2
    await world.wait(25)
    assert world.is_true("Ready")
    assert world.ready_pods(first) == 2, "connections to the old pods have 30 s to end"
    await world.wait(10)
    assert world.child("Deployment", first) is None
    assert world.child("ControllerRevision", first) is not None
    assert world.entry(first)["state"] == "Retired"


async def test_second_change_before_the_first_is_done_drops_the_middle_one() -> None:
    world, first = await served()
    middle = world.apply(model=model("2"))
    world.fate(middle, Fate(Kind.RUNNING))
    await world.settle(limit=60)
    assert world.traffic == first
    last = world.apply(model=model("3"))
    await world.settle()
    assert world.traffic == last
    assert world.child("Deployment", middle) is None
    assert [h["outcome"] for h in world.status["history"]] == ["Promoted", "Superseded", "Promoted"]


async def test_spec_back_to_stable_in_mid_rollout_keeps_its_pods() -> None:
    world, first = await served(replicas=2)
    pods = {p["metadata"]["uid"] for p in world.nodes.pods(first)}
    second = world.apply(model=model("2"), replicas=2)
    world.fate(second, Fate(Kind.RUNNING))
    await world.settle(limit=30)
    world.apply(model=model("1"), replicas=2)
    await world.settle()
    assert world.is_true("Ready")
    assert {p["metadata"]["uid"] for p in world.nodes.pods(first)} == pods
    assert world.child("Deployment", second) is None


async def test_going_back_to_a_retired_revision_uses_its_recorded_template() -> None:
    world, first = await served()
    before = world.child("ControllerRevision", first)
    world.apply(model=model("2"))
    await world.settle()
    world.start_operator(runtime_image="runtime:2")
    world.apply(model=model("1"))
    await world.settle()
    assert world.traffic == first
    after = world.child("ControllerRevision", first)
    assert before is not None
    assert after is not None
    assert after["data"] == before["data"]
    assert after["revision"] == 3


async def test_replicas_and_model_changed_together() -> None:
    world, _ = await served(replicas=1)
    second = world.apply(model=model("2"), replicas=3)
    await world.settle()
    assert world.traffic == second
    assert world.behind_traffic == 3


async def test_scaling_makes_no_revision() -> None:
    world, first = await served(replicas=1)
    world.apply(model=model("1"), replicas=4)
    await world.one_pass()
    assert world.condition("Ready")["status"] == "False", "three pods are still to come"
    await world.settle()
    assert world.behind_traffic == 4
    assert [e["name"] for e in world.status["revisions"]] == [first]


async def test_scaled_to_zero_is_ready_and_comes_back() -> None:
    world, first = await served()
    world.apply(model=model("1"), replicas=0)
    await world.settle()
    assert world.condition("Ready")["reason"] == "ScaledToZero"
    assert world.is_true("Available")
    assert not world.nodes.pods(first)
    world.apply(model=model("1"), replicas=2)
    await world.settle()
    assert world.behind_traffic == 2


async def test_failed_revision_leaves_traffic_alone_and_is_not_tried_again() -> None:
    world, first = await served()
    second = world.apply(model=model("2"))
    world.fate(second, Fate(Kind.CRASH, LAST_WORDS))
    await world.settle(limit=20)
    assert world.traffic == first
    assert world.behind_traffic == 1
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "DigestMismatch")
    assert "the file has another digest" in stalled["message"]
    assert world.is_true("Available")
    assert world.condition("Ready")["status"] == "False"
    assert world.nodes.pods(second), "its logs are still of use"
    await world.wait(60)
    assert not world.nodes.pods(second)
    world.apply(model=model("2"), replicas=2)
    await world.settle()
    assert not world.nodes.pods(second), "scaling is no reason to try again"
    assert world.ready_pods(first) == 2
    world.fate(second, Fate())
    world.apply(model=model("1"), replicas=2)
    await world.settle()
    world.apply(model=model("2"), replicas=2)
    await world.settle()
    assert world.traffic == second


async def test_deadline_names_the_cause_not_the_symptom() -> None:
    world, first = await served()
    second = world.apply(model=model("2"), rollout={"progressDeadline": "2m"})
    world.fate(second, Fate(Kind.IMAGE_PULL_BACK_OFF, "manifest unknown"))
    await world.settle(limit=110)
    ready = world.condition("Ready")
    assert ready["reason"] == "ImagePullFailed"
    assert "manifest unknown" in ready["message"], "what the registry said outlives the back-off"
    assert world.is_true("Reconciling")
    await world.wait(20)
    assert world.condition("Stalled")["reason"] == "ImagePullFailed"
    assert "manifest unknown" in world.condition("Stalled")["message"]
    assert "2m" in world.condition("Stalled")["message"]
    assert world.traffic == first


async def test_deadline_without_any_cause() -> None:
    world, _ = await served()
    second = world.apply(model=model("2"))
    world.fate(second, Fate(Kind.RUNNING))
    await world.settle()
    assert world.condition("Stalled")["reason"] == "ProgressDeadlineExceeded"
    assert "0 of 1 pods ready" in world.condition("Stalled")["message"]


@pytest.mark.parametrize("known", [True, False])
async def test_time_in_which_nobody_could_look_does_not_count(known: bool) -> None:
    """The API server is away for longer than the deadline; nodes tell that pods are ready only after it is back."""
    world, _ = await served()
    second = world.apply(model=model("2"), rollout={"progressDeadline": "2m"})
    while world.child("Deployment", second) is None:
        await world.one_pass()
    since = world.time
    world.sleep(300)
    world.start_operator(away=Away(since, world.time) if known else None)
    await world.settle()
    assert world.status["stableRevision"] == second or not known
    assert known or world.condition("Stalled")["reason"] == "ProgressDeadlineExceeded"


async def test_a_deadline_ends_also_after_nobody_could_look() -> None:
    world, _ = await served()
    second = world.apply(model=model("2"), rollout={"progressDeadline": "2m"})
    world.fate(second, Fate(Kind.RUNNING))
    await world.settle(limit=30)
    since = world.time
    world.sleep(300)
    world.start_operator(away=Away(since - timedelta(days=365), world.time))
    await world.settle(limit=80)
    assert world.is_true("Reconciling")
    await world.settle(limit=120)
    assert world.condition("Stalled")["reason"] == "ProgressDeadlineExceeded"


async def test_first_revision_that_failed_may_still_come_up() -> None:
    world = World()
    first = world.apply(model=model("1"))
    world.fate(first, Fate(Kind.UNSCHEDULABLE))
    await world.settle()
    assert world.condition("Stalled")["reason"] == "Unschedulable"
    world.fate(first, Fate())
    world.nodes.settle()
    await world.settle()
    assert world.is_true("Ready")
    assert not world.is_true("Stalled")


async def test_stable_that_serves_nobody_does_not_hold_up_its_fix() -> None:
    world, first = await served(replicas=3)
    world.fate(first, Fate(Kind.CRASH, "boom"))
    world.nodes.settle()
    await world.settle(limit=30)
    assert not world.is_true("Available")
    second = world.apply(model=model("2"), replicas=3)
    while world.ready_pods(second) == 0:
        await world.one_pass()
        world.nodes.step(pods=4)
    await world.settle(limit=1)
    assert world.traffic == second


async def test_operator_upgrade_changes_no_pod() -> None:
    world, first = await served(replicas=2)
    before = world.child("Deployment", first)
    world.start_operator(runtime_image="runtime:2")
    writes = dict(world.cluster.writes)
    await world.settle()
    assert world.child("Deployment", first) == before
    assert dict(world.cluster.writes) == writes


async def test_hand_made_changes_are_mended() -> None:
    world, first = await served(replicas=2)
    ref = next(r for r in world.cluster.objects if r.kind == "Deployment")
    world.cluster.edit(ref, lambda body: body["spec"].update(replicas=0))
    world.nodes.settle()
    await world.settle()
    assert world.ready_pods(first) == 2


async def test_deleted_record_does_not_take_serving_pods_along() -> None:
    world, first = await served()
    world.apply(model=model("2"))
    second_pending = world.revision({"model": model("2")})
    world.fate(second_pending, Fate(Kind.RUNNING))
    await world.settle(limit=30)
    ref = next(r for r in world.cluster.objects if r.kind == "ControllerRevision" and r.name == first)
    world.cluster.delete(ref)
    await world.settle(limit=30)
    assert world.traffic == first
    assert world.behind_traffic == 1


async def test_lost_status_is_read_back_from_the_service() -> None:
    world, first = await served()
    ref = next(r for r in world.cluster.objects if r.kind == "ModelDeployment")
    world.cluster.set_status(ref, {})
    second = world.apply(model=model("2"))
    world.fate(second, Fate(Kind.RUNNING))
    await world.settle(limit=60)
    assert world.status["stableRevision"] == first
    assert world.traffic == first
    assert world.behind_traffic == 1


async def test_invalid_spec_names_the_field_and_touches_nothing() -> None:
    world, first = await served()
    writes = world.cluster.writes["apply"]
    world.apply(model={"uri": "ftp://models/2.pt"})
    await world.settle()
    assert world.condition("Stalled")["reason"] == "InvalidSpec"
    assert "spec.model.uri" in world.condition("Ready")["message"]
    assert world.is_true("Available")
    assert world.status["observedGeneration"] == 2
    assert world.traffic == first
    assert world.cluster.writes["apply"] == writes


async def test_name_of_a_child_taken_by_somebody_else() -> None:
    world = World()
    world.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "vision", "name": "digits"},
            "spec": {"selector": {"app": "other"}, "ports": [{"port": 80}]},
        }
    )
    world.apply(model=model("1"))
    await world.settle(limit=60)
    assert world.condition("Stalled")["reason"] == "NameTaken"
    service = world.child("Service", "digits")
    assert service is not None
    assert service["spec"]["selector"] == {"app": "other"}


async def test_history_of_revisions_is_limited() -> None:
    world = World()
    for version in range(6):
        world.apply(model=model(str(version)), rollout={"revisionHistoryLimit": 2})
        await world.settle()
    assert [e["version"] for e in world.status["revisions"]] == ["5", "4", "3"]
    assert len([r for r in world.cluster.objects if r.kind == "ControllerRevision"]) == 3


async def test_presigned_address_is_not_repeated_in_the_status() -> None:
    world = World()
    world.apply(model={"uri": "https://store/digits.pt?X-Amz-Signature=planted"})
    await world.settle()
    assert "planted" not in str(world.status)
    assert "planted" not in str(world.cluster.notices)


async def test_every_status_tells_of_its_own_generation() -> None:
    world, _ = await served(replicas=2)
    for version in ("2", "3"):
        world.apply(model=model(version), replicas=2)
        await world.settle()
    generations = [s["observedGeneration"] for s in world.statuses]
    assert generations == sorted(generations)
    for status in world.statuses:
        for condition in status["conditions"]:
            assert condition["observedGeneration"] == status["observedGeneration"]
