"""What else may change while a canary is under way: what is asked for, and how much of it."""

from __future__ import annotations

import pytest

from pilothouse.api.conditions import Phase
from tests.support.deployments import canary, model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load
from tests.support.models import Store
from tests.support.recording import Recording
from tests.support.system import System
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"


def digits(store: Store, version: str, replicas: int = 1) -> Json:
    rollout = canary({"weight": 50, "pause": True})
    uri = store.version(version)
    return model_deployment(NAME, uri, version=version, replicas=replicas, rollout=rollout)


def sizes(kubectl: Kubectl) -> dict[str, int]:
    """Return how many ready pods each version has."""
    return {e["version"]: e["readyReplicas"] for e in kubectl.status(NAME)["revisions"] if e.get("replicas")}


def scale(kubectl: Kubectl, replicas: int, expected: dict[str, int]) -> None:
    kubectl("scale", "mdep", NAME, f"--replicas={replicas}")
    until(lambda: sizes(kubectl) == expected, seconds=90, what=lambda: str(kubectl.status(NAME)))


def test_changed_again_scaled_and_taken_back_under_way(
    system: System, kubectl: Kubectl, store: Store
) -> None:
    kubectl.apply(digits(store, "1"))
    stable = kubectl.wait_ready(NAME)["stableRevision"]
    pods = kubectl.pods(stable)
    with (
        Recording(kubectl, NAME) as recording,
        load(kubectl, system.references["runtime"], NAME, renew=1) as running,
    ):
        kubectl.apply(digits(store, "2"))
        middle = kubectl.wait_for_reason(NAME, "WaitingForPromotion")["rollout"]["revision"]

        # A second change: the middle revision is dropped, the stable one keeps its requests and its pod.
        kubectl.apply(digits(store, "3"))
        status = kubectl.wait_for_reason(NAME, "WaitingForPromotion")
        assert (status["stableRevision"], status["history"][0]["outcome"]) == (stable, "Superseded")
        until(lambda: kubectl.revision(NAME, middle)["state"] == "Retired")
        kubectl.wait_gone(middle)
        assert kubectl.pods(stable) == pods
        last = status["rollout"]["revision"]

        # More of both, then fewer: the share stays, and so does the stable revision.
        scale(kubectl, 2, {"1": 2, "3": 2})
        until(lambda: kubectl.status(NAME)["rollout"]["weightReached"] == 50)
        assert kubectl.status(NAME)["replicas"] == 4
        scale(kubectl, 1, {"1": 1, "3": 1})
        remaining = kubectl.pods(stable)
        assert kubectl.status(NAME)["rollout"]["step"] == 1
        running.more()

        # Back to what serves: nothing has to come up for that.
        kubectl.apply(digits(store, "1"))
        assert kubectl.wait_ready(NAME)["stableRevision"] == stable
        assert kubectl.pods(stable) == remaining
        until(lambda: sizes(kubectl) == {"1": 1}, what=lambda: str(kubectl.status(NAME)))
        tally = running.more()
        assert tally["failed"] == 0, tally["failures"]
        assert set(tally["versions"]) == {"1", "2", "3"}
    assert not recording.entered(Phase.SWITCHING)
    begun = {state.status["rollout"]["revision"] for state in recording.entered(Phase.SHIFTING)}
    assert begun == {middle, last}
    assert all(mix[stable] for _, mix in recording.mixes), recording.story()
    recording.check_told_the_truth()
