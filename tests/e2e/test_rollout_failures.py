"""A new version that is no good: what of it users meet, how it is found out, and that the old one answers again.

Version 1 serves throughout, so that each test tries its own bad version beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import odd_models
from tests.support.deployments import canary, model_deployment, validation
from tests.support.kubectl import Json, Kubectl
from tests.support.load import Load, load, rows
from tests.support.models import GOLDEN, Store
from tests.support.recording import Recording
from tests.support.system import System
from tests.support.waiting import holds_for, until

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"
# Nobody would wait for longer than a bad model takes to be found out.
STEP = {"weight": 50, "for": "10m"}
# The slow model takes half a second of a core for each request, and more for the first ones.
STRICT = {
    "interval": "2s",
    "minRequests": 5,
    "maxErrorRate": "1%",
    "maxLatencyP99": "400ms",
    "failureLimit": 2,
}


# With one thread: two that wait for each other on cores with other things to do make the slow model slower yet.
ONE_CORE = {"resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "1"}}}


def digits(uri: str, version: str, **rollout: Any) -> Json:
    way = canary(STEP, **rollout)
    return model_deployment(NAME, uri, version=version, runtime=ONE_CORE, rollout=way)


@pytest.fixture(scope="module")
def stable(kubectl: Kubectl, store: Store) -> Iterator[str]:
    """The revision of version 1, which serves."""
    kubectl.apply(digits(store.version("1"), "1"))
    yield kubectl.wait_ready(NAME)["stableRevision"]
    kubectl("delete", "mdep", NAME)


def failed(kubectl: Kubectl, recording: Recording, stable: str, reason: str) -> tuple[str, str]:
    """Wait until the rollout has failed, and return the revision and the message, the same wherever they are told."""
    assert kubectl.wait_stalled(NAME)["reason"] == reason
    status = kubectl.status(NAME)
    revision = str(status["rollout"]["revision"])
    entry = kubectl.revision(NAME, revision)
    assert (entry["state"], entry["reason"]) == ("Failed", reason)
    assert status["stableRevision"] == stable
    ended = status["history"][0]
    assert (ended["revision"], ended["outcome"], ended["reason"]) == (revision, "Failed", reason)
    assert ended["startedAt"] <= ended["endedAt"] == entry["since"]
    assert kubectl.conditions(NAME)["Available"]["status"] == "True"
    recording.check_told_the_truth()
    return revision, str(entry["message"])


def test_a_slow_model_is_found_out_by_its_latency(
    system: System, kubectl: Kubectl, store: Store, stable: str
) -> None:
    image = system.references["runtime"]
    with Recording(kubectl, NAME) as recording, load(kubectl, image, NAME, renew=1) as running:
        kubectl.apply(digits(store.url(odd_models.SLOW), "slow", analysis=STRICT))
        revision, message = failed(kubectl, recording, stable, "AnalysisFailed")
        assert "p99 latency" in message
        assert "bad measurement 2 of 2" in message
        assert kubectl.status(NAME)["rollout"]["analysis"]["failed"] == 2
        assert kubectl.revision(NAME, revision)["latencyP99"]
        # What was on its way to it comes to its end; from then on there is nothing more.
        after = until(lambda: no_more(running, "slow"))
        assert rows(after, "slow") > 0
        assert after["failed"] == 0, after["failures"]
        kubectl.wait_gone(revision)
    recording.check_told_the_truth()


def no_more(running: Load, version: str) -> Json:
    """Return the tally after some more requests if this version answered none of them, else nothing."""
    before, after = running.more(1), running.more(100)
    return after if rows(before, version) == rows(after, version) else {}


def test_a_model_that_answers_errors_is_found_out_and_kept_to_be_looked_at(
    system: System, kubectl: Kubectl, store: Store, stable: str
) -> None:
    image = system.references["runtime"]
    with Recording(kubectl, NAME) as recording, load(kubectl, image, NAME, renew=1) as running:
        uri = store.url(odd_models.ERRORING)
        kubectl.apply(digits(uri, "erroring", analysis=STRICT, onFailure="Pause"))
        revision, message = failed(kubectl, recording, stable, "AnalysisFailed")
        assert "error rate" in message
        before = until(lambda: no_more(running, "erroring"))
        after = running.more(100)
        # Its own errors were met while the step lasted, and nothing else went wrong.
        assert before["statuses"]["500"] == after["statuses"]["500"] == after["failed"]
        assert all("dazzled" in failure for failure in after["failures"]), after["failures"]
        # Longer than scaleDownDelay: the pod stays, without requests.
        kept = kubectl.pods(revision)
        holds_for(lambda: kept and kubectl.pods(revision) == kept, seconds=4)
    recording.check_told_the_truth()


def test_a_wrong_model_never_meets_a_user(
    system: System, kubectl: Kubectl, store: Store, stable: str
) -> None:
    image = system.references["runtime"]
    with Recording(kubectl, NAME) as recording, load(kubectl, image, NAME, renew=1) as running:
        uri = store.url(odd_models.WRONG)
        kubectl.apply(digits(uri, "wrong", validation=validation(store.golden)))
        revision, message = failed(kubectl, recording, stable, "ValidationFailed")
        assert "accuracy is 0" in message
        after = running.more()
        assert set(after["versions"]) == {"1"}
        assert after["failed"] == 0, after["failures"]
    assert not any(revision in mix for _, mix in recording.mixes)
    recording.check_told_the_truth()


def test_a_data_set_that_cannot_be_had_is_no_pass(kubectl: Kubectl, store: Store, stable: str) -> None:
    with Recording(kubectl, NAME) as recording:
        nowhere = validation(store.url(GOLDEN, "404"))
        kubectl.apply(digits(store.version("2"), "2", validation=nowhere))
        revision, message = failed(kubectl, recording, stable, "ValidationNotDone")
        assert "404" in message
    assert not any(revision in mix for _, mix in recording.mixes)
    recording.check_told_the_truth()


def test_a_validation_that_cannot_start_is_no_pass(kubectl: Kubectl, store: Store) -> None:
    within = kubectl.within(f"{kubectl.namespace}-quota")
    kubectl("create", "namespace", within.namespace)
    try:
        # Room for a pod of each version, and none for the validation's.
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
        within.apply(quota | {"spec": {"hard": {"pods": "2"}}})
        within.apply(digits(store.version("1"), "1"))
        stable = within.wait_ready(NAME)["stableRevision"]
        with Recording(within, NAME) as recording:
            never = validation(store.golden, timeout="1s")
            within.apply(digits(store.version("2"), "2", validation=never))
            revision, message = failed(within, recording, stable, "ValidationNotDone")
            assert "could not be created" in message
        assert not any(revision in mix for _, mix in recording.mixes)
        recording.check_told_the_truth()
    finally:
        kubectl("delete", "namespace", within.namespace, "--wait=false")
