"""How a new revision is validated before any user's request reaches it, told as short stories."""

from __future__ import annotations

import json
import math

import pytest

from pilothouse.api.names import LABEL_REVISION, LABEL_VALIDATION
from pilothouse.plan.seen import Json
from pilothouse_runtime.contract import FailureReason, LastWords, ValidationReport
from tests.support.memory_cluster import Ref
from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model, validated
from tests.unit.plan.given import VALIDATION, blue_green, canary, pause, served

WAYS = [{}, canary(pause(20)), blue_green(), {"surge": 1}]


async def validating(way: Json, fate: Fate, **spec: object) -> tuple[World, str, str]:
    """Return a world in which version 2, whose validation ends so, is being validated beside version 1."""
    world, first = await served(replicas=3)
    second = world.apply(model=model("2"), replicas=3, rollout={**way, "validation": VALIDATION}, **spec)
    world.job_fate(second, fate)
    await world.until(lambda: world.phase == "Validating")
    return world, first, second


def asks_for(job: Json) -> dict[str, str]:
    """Return the environment of a validation's container."""
    return {e["name"]: e["value"] for e in job["spec"]["template"]["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("way", WAYS)
async def test_no_request_reaches_the_revision_before_it_has_passed(way: Json) -> None:
    world, _, second = await validating(way, validated(0.97, seconds=60))
    began = world.time
    await world.until(lambda: world.phase != "Validating")
    assert world.users.answered[second] == 0
    assert (world.time - began).total_seconds() >= 55
    await world.until(lambda: world.behind(second) > 0)
    passed = world.rollout["validation"]
    assert passed["passed"] is True
    assert passed["value"] == "0.97"
    assert "0.95" in passed["message"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("fate", "reason", "told"),
    [
        (validated(0.5), "ValidationFailed", "0.5"),
        (validated(math.nan), "ValidationFailed", "nan"),
        (Fate(Kind.DONE, "no report"), "ValidationNotDone", "report"),
        (Fate(Kind.CRASH, "Traceback ..."), "ValidationNotDone", "code 1"),
        (
            Fate(Kind.CRASH, LastWords(FailureReason.DIGEST_MISMATCH, "another digest", True).encode()),
            "ValidationNotDone",
            "another digest",
        ),
        (Fate(Kind.OUT_OF_MEMORY), "ValidationNotDone", "memory"),
        (Fate(Kind.RUNNING), "ValidationNotDone", "2m"),
        (Fate(Kind.PENDING), "ValidationNotDone", "2m"),
        (Fate(Kind.UNSCHEDULABLE), "ValidationNotDone", "2m"),
        (Fate(Kind.IMAGE_PULL_BACK_OFF), "ValidationNotDone", "2m"),
        (Fate(Kind.QUOTA), "ValidationNotDone", "2m"),
    ],
)
async def test_whatever_is_not_a_pass_is_a_failure_that_says_why(
    way: Json, fate: Fate, reason: str, told: str
) -> None:
    world, first, second = await validating(way, fate)
    await world.until(lambda: world.phase == "Failed", limit=180)
    await world.wait(5)
    assert world.users.answered[second] == 0
    assert world.ready_pods(first) >= (2 if "surge" in way else 3)
    stalled = world.condition("Stalled")
    assert stalled["reason"] == reason
    assert told in stalled["message"]
    await world.wait(3600)
    assert world.mix == {first: 3}
    assert not world.nodes.pods(second)
    # The Job stays for its log, but nothing of it runs.
    assert all(p["status"]["phase"] in ("Succeeded", "Failed") for p in world.nodes.jobs.pods(second))


async def test_first_revision_is_validated_before_its_first_request() -> None:
    world = World()
    first = world.apply(model=model("1"), replicas=2, rollout={"validation": VALIDATION})
    world.job_fate(first, validated(0.99, seconds=60))
    await world.until(lambda: world.phase == "Validating")
    assert not world.mix
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {first: 2}


async def test_first_revision_that_does_not_pass_never_serves() -> None:
    world = World()
    first = world.apply(model=model("1"), replicas=2, rollout={"validation": VALIDATION})
    world.job_fate(first, validated(0.1))
    await world.wait(3600)
    assert world.users.answered[first] == 0
    assert world.condition("Stalled")["reason"] == "ValidationFailed"


async def test_pods_of_a_validation_are_behind_no_service_and_one_job_serves_one_try() -> None:
    world, _, second = await validating({}, validated(0.97, seconds=60))
    await world.wait(10)
    pods = world.nodes.jobs.pods(second)
    assert [pod["metadata"]["labels"].get(LABEL_VALIDATION) for pod in pods] == [second]
    assert all(LABEL_REVISION not in pod["metadata"]["labels"] for pod in pods)
    assert world.children("Job") == {second}
    await world.until(lambda: world.is_true("Ready"))
    await world.wait(60)
    assert not world.children("Job")


async def test_job_asks_the_revision_itself_and_not_the_model() -> None:
    world, _, second = await validating({}, validated(0.97, seconds=60))
    await world.until(lambda: bool(world.children("Job")))
    service, job = world.child("Service", second), world.child("Job", second)
    assert service is not None
    assert job is not None
    assert service["spec"]["clusterIP"] in asks_for(job)["PILOTHOUSE_VALIDATION_URL"]


async def test_comparison_asks_both_revisions() -> None:
    world, first = await served(replicas=1)
    against = {"uri": "http://models/x.npz", "metric": "maxDifference", "max": 0.1, "against": "Stable"}
    second = world.apply(model=model("2"), replicas=1, rollout={"validation": against})
    world.job_fate(second, validated(0.05, metric="maxDifference", seconds=10))
    await world.until(lambda: world.phase == "Validating" and bool(world.children("Job")))
    stable, job = world.child("Service", first), world.child("Job", second)
    assert stable is not None
    assert job is not None
    assert any(stable["spec"]["clusterIP"] in value for value in asks_for(job).values())
    await world.until(lambda: world.is_true("Ready"))
    assert world.mix == {second: 1}


async def test_pod_that_loses_its_node_is_tried_again() -> None:
    world, _, second = await validating({}, Fate(Kind.CRASH, "node lost"))
    await world.until(
        lambda: any(p["status"].get("phase") == "Failed" for p in world.nodes.jobs.pods(second))
    )
    world.job_fate(second, validated(0.97))
    await world.until(lambda: world.is_true("Ready"), limit=60)


async def test_job_that_somebody_deletes_is_made_again() -> None:
    world, _, second = await validating({}, validated(0.97, seconds=30))
    await world.wait(10)
    world.cluster.delete(Ref("Job", world.key.namespace, second))
    await world.until(lambda: world.is_true("Ready"), limit=120)
    assert world.mix == {second: 3}


async def test_spec_that_changes_meanwhile_takes_the_job_along() -> None:
    world, _, second = await validating({}, Fate(Kind.RUNNING))
    third = world.patch(model=model("3"))
    await world.until(lambda: world.is_true("Ready"), limit=120)
    await world.wait(60)
    assert world.mix == {third: 3}
    assert second not in world.children("Job")


async def test_report_of_an_earlier_try_says_nothing_of_this_one() -> None:
    world, _, second = await validating(canary(pause(20)), validated(0.97))
    await world.until(lambda: world.behind(second) == 1)
    world.command("abort", second)
    await world.until(lambda: world.phase == "Failed")
    world.job_fate(second, validated(0.5))
    before = world.users.answered[second]
    world.command("retry", second)
    await world.until(lambda: world.phase == "Validating")
    answered = world.users.answered[second]
    await world.until(lambda: world.phase == "Failed", limit=180)
    assert world.users.answered[second] == answered
    assert answered - before <= 100, "only what came before the abort was acted upon"
    assert world.condition("Stalled")["reason"] == "ValidationFailed"


async def test_candidate_that_crashes_while_it_is_validated_fails() -> None:
    world, first, second = await validating({}, Fate(Kind.RUNNING))
    world.fate(second, Fate(Kind.CRASH, "boom"))
    world.nodes.settle()
    await world.until(lambda: world.phase == "Failed", limit=60)
    assert world.condition("Stalled")["reason"] == "CrashLooping"
    assert world.mix == {first: 3}


async def test_going_back_to_what_served_before_needs_no_validation() -> None:
    world, first = await served(replicas=2)
    world.apply(model=model("2"), replicas=2, rollout={"validation": VALIDATION})
    await world.until(lambda: world.is_true("Ready"))
    await world.wait(60)
    world.job_fate(first, validated(0.1))
    world.patch(model=model("1"))
    async for _ in world.moves(60):
        assert not world.children("Job")
    assert world.is_true("Ready")
    assert world.mix == {first: 2}


async def test_stable_revision_that_serves_nobody_is_no_reason_not_to_validate() -> None:
    world, first, second = await validating({}, validated(0.1, seconds=20))
    world.fate(first, Fate(Kind.CRASH, "boom"))
    world.nodes.settle()
    await world.until(lambda: world.phase == "Failed", limit=120)
    assert world.users.answered[second] == 0


def test_report_is_what_the_runtime_writes() -> None:
    report = ValidationReport.decode(validated(0.97).message)
    assert report is not None
    assert report.value == 0.97


async def test_a_validation_gets_neither_samples_nor_their_secret() -> None:
    sampling = {"rate": "1%", "uri": "s3://samples/digits/", "secretName": "samples-writer"}
    world, _, second = await validating({}, validated(0.97), runtime={"sampling": sampling})
    await world.until(lambda: world.child("Job", second) is not None)
    assert "samples-writer" in json.dumps(world.child("Deployment", second))
    assert "sampl" not in json.dumps(world.child("Job", second)).lower()
