"""Blue/green on a real node: a look at the new version before anybody meets it, one switch, and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.api.conditions import Phase
from tests.support.deployments import blue_green, model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load, measure, rows
from tests.support.models import Store
from tests.support.recording import Recording
from tests.support.system import System

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"
REPLICAS = 2


def digits(store: Store, version: str, **rollout: Any) -> Json:
    # The way back is open for longer than a slow machine takes to go it.
    way = blue_green(scaleDownDelay="1m", **rollout)
    return model_deployment(NAME, store.version(version), version=version, replicas=REPLICAS, rollout=way)


def switches(recording: Recording) -> list[str]:
    """Return which revisions got all requests, one after the other; never were there two of them at once."""
    found: list[str] = []
    for _, mix in recording.mixes:
        assert len(mix) <= 1, f"requests were mixed: {mix}"
        found += [revision for revision in mix if found[-1:] != [revision]]
    return found


def test_preview_switch_and_the_way_back(system: System, kubectl: Kubectl, store: Store) -> None:
    image = system.references["runtime"]
    kubectl.apply(digits(store, "1"))
    blue = kubectl.wait_ready(NAME)["stableRevision"]
    blue_pods = kubectl.pods(blue)
    with Recording(kubectl, NAME) as recording, load(kubectl, image, NAME, renew=1) as running:
        kubectl.apply(digits(store, "2", autoPromote=False))
        waits = kubectl.wait_for_reason(NAME, "WaitingForPromotion")
        green = waits["rollout"]["revision"]
        assert f"pilothouse.dev/promote={green}" in waits["rollout"]["message"]
        # All of it answers behind the preview, and users know nothing of it.
        preview = measure(kubectl, image, NAME, service=f"{NAME}-preview")
        assert set(preview["versions"]) == {"2"}
        assert preview["failed"] == 0
        assert set(running.more()["versions"]) == {"1"}
        assert switches(recording) == [blue]

        kubectl.command(NAME, "promote", green)
        kubectl.wait_ready(NAME)
        green_pods = kubectl.pods(green)
        before, after = running.more(), running.more()
        assert rows(before, "1") == rows(after, "1"), "nobody meets version 1 any more"
        assert switches(recording) == [blue, green]

        # The way back, while the old pods are still there: it takes no new one.
        kubectl.apply(digits(store, "1"))
        kubectl.wait_ready(NAME)
        assert kubectl.pods(blue) == blue_pods
        assert kubectl.pods(green) == green_pods
        before, after = running.more(), running.more()
        assert rows(before, "2") == rows(after, "2"), "nobody meets version 2 any more"
        assert not recording.entered(Phase.AWAITING, revision=blue)
        assert switches(recording) == [blue, green, blue]

        # And a version that nobody has to promote by hand.
        kubectl.apply(digits(store, "3"))
        last = kubectl.wait_ready(NAME)["stableRevision"]
        after = running.more()
        assert rows(after, "3") > 0
        assert switches(recording) == [blue, green, blue, last]
        assert after["failed"] == 0, after["failures"]
    recording.check_told_the_truth()
