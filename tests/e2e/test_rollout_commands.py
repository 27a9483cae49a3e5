"""What people can do to a canary under way: hold it, let it go on, end a step, give it up, try again, end it all."""

from __future__ import annotations

import pytest

from tests.support.deployments import canary, model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load
from tests.support.models import Store
from tests.support.recording import Recording
from tests.support.system import System
from tests.support.waiting import holds_for, until

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"


def digits(store: Store, version: str) -> Json:
    # The second step is longer than any test: nothing here goes on by itself.
    rollout = canary({"weight": 50, "pause": True}, {"for": "1h"})
    return model_deployment(NAME, store.version(version), version=version, rollout=rollout)


def outcome(kubectl: Kubectl, command: str, value: str) -> str:
    """Give a command, wait until it was heard, and return what became of it."""
    kubectl.command(NAME, command, value)

    def heard() -> str:
        given = kubectl.status(NAME).get("commands", ())
        return next((c["outcome"] for c in given if (c["command"], c["value"]) == (command, value)), "")

    return until(heard, seconds=30, what=lambda: f"{command} {value} is heard: {kubectl.status(NAME)}")


def test_commands_are_carried_out_once_and_for_the_revision_they_name(
    system: System, kubectl: Kubectl, store: Store
) -> None:
    kubectl.apply(digits(store, "1"))
    first = kubectl.wait_ready(NAME)["stableRevision"]
    with (
        Recording(kubectl, NAME) as recording,
        load(kubectl, system.references["runtime"], NAME, renew=1) as running,
    ):
        kubectl.apply(digits(store, "2"))
        second = str(kubectl.wait_for_reason(NAME, "WaitingForPromotion")["rollout"]["revision"])
        tried = kubectl.pods(second)

        assert outcome(kubectl, "pause", second) == "paused"
        assert kubectl.wait_for_reason(NAME, "Paused")["rollout"]["weightReached"] == 50
        assert outcome(kubectl, "resume", second) == "resumed"
        kubectl.wait_for_reason(NAME, "WaitingForPromotion")
        assert outcome(kubectl, "promote", second) == "step 1 ended by hand"
        until(lambda: kubectl.status(NAME)["rollout"].get("step") == 2)

        assert outcome(kubectl, "abort", second).startswith("aborted")
        assert kubectl.wait_stalled(NAME)["reason"] == "Aborted"
        assert kubectl.status(NAME)["history"][0]["outcome"] == "Aborted"
        assert outcome(kubectl, "abort", f"{second}:more").startswith("ignored")
        assert outcome(kubectl, "retry", second).startswith("tried again")
        assert kubectl.wait_for_reason(NAME, "WaitingForPromotion")["stableRevision"] == first
        assert kubectl.pods(second).isdisjoint(tried)

        assert outcome(kubectl, "promote", f"{second}:full").startswith("promoted in full")
        assert kubectl.wait_ready(NAME)["stableRevision"] == second

        # All of those annotations are still there, and are about a revision that is not being rolled out now.
        kubectl.apply(digits(store, "3"))
        third = str(kubectl.wait_for_reason(NAME, "WaitingForPromotion")["rollout"]["revision"])
        assert outcome(kubectl, "abort", f"{second}:again").startswith("ignored")
        stands = kubectl.status(NAME)["rollout"]
        holds_for(lambda: kubectl.status(NAME)["rollout"] == stands, seconds=3)
        assert (stands["revision"], stands["step"]) == (third, 1)
        tally = running.more()
        assert tally["failed"] == 0, tally["failures"]
        assert set(tally["versions"]) == {"1", "2", "3"}
    recording.check_told_the_truth()
