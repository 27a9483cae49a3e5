"""A canary on a real node: more and more of the requests, step by step, and the way back to what served before."""

from __future__ import annotations

import pytest

from pilothouse.api.conditions import Phase
from tests.support.deployments import LENIENT, canary, model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load, rows
from tests.support.models import Store
from tests.support.recording import Recording
from tests.support.system import System

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"
# Of two pods each side: one beside two, two beside two, and two beside one while the other stands by.
STEPS = {20: 33, 50: 50, 80: 67}


def digits(store: Store, version: str) -> Json:
    rollout = canary(*({"weight": weight, "for": "6s"} for weight in STEPS), analysis=LENIENT)
    return model_deployment(NAME, store.version(version), version=version, replicas=2, rollout=rollout)


def test_promoted_step_by_step_and_undone_by_the_spec(system: System, kubectl: Kubectl, store: Store) -> None:
    image = system.references["runtime"]
    kubectl.apply(digits(store, "1"))
    first = kubectl.wait_ready(NAME)
    old = kubectl.pods(first["stableRevision"])
    with Recording(kubectl, NAME) as recording, load(kubectl, image, NAME, renew=1) as running:
        kubectl.apply(digits(store, "2"))
        second = kubectl.wait_ready(NAME)
        assert second["stableVersion"] == "2"
        reached = {}
        for step, (asked, told) in enumerate(STEPS.items(), start=1):
            states = [
                s for s in recording.entered(Phase.SHIFTING, step) if "inForceSince" in s.status["rollout"]
            ]
            # kube-proxy gathers changes for a second or two before it acts on them.
            shares = running.shares(states[0].at + 2, _left(recording, states[-1].at))
            reached[asked] = shares["2"]
            assert {s.status["rollout"]["weight"] for s in states} == {asked}
            assert states[-1].status["rollout"]["weightReached"] == told
        assert reached == pytest.approx({asked: told / 100 for asked, told in STEPS.items()}, abs=0.12)
        analysis = recording.entered(Phase.SWITCHING)[0].status["rollout"]["analysis"]
        assert analysis["passed"] >= len(STEPS)

        # The way back is an older spec: no steps, since that revision served before; and its old pods are gone.
        kubectl.wait_gone(first["stableRevision"])
        before = running.more()
        kubectl.apply(digits(store, "1"))
        third = kubectl.wait_ready(NAME)
        assert third["stableRevision"] == first["stableRevision"]
        assert third["rollout"]["skipSteps"]
        assert not recording.entered(Phase.SHIFTING, revision=first["stableRevision"])
        assert kubectl.pods(first["stableRevision"]).isdisjoint(old)
        after = running.more()
        assert after["failed"] == 0, after["failures"]
        assert rows(after, "1") > rows(before, "1")
        ended = [(entry["version"], entry["outcome"]) for entry in third["history"]]
        assert ended == [("1", "Promoted"), ("2", "Promoted"), ("1", "Promoted")]
    recording.check_told_the_truth()


def _left(recording: Recording, at: float) -> float:
    """Return when the state that was seen then ended."""
    return next(state.at for state in recording.states if state.at > at)
