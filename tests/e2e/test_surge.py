"""A cluster with no room to spare: never more pods than replicas, and still no failed request."""

from __future__ import annotations

import pytest

from tests.support.deployments import model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load
from tests.support.models import Store
from tests.support.recording import Recording, Sighting, Watch
from tests.support.system import System

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"
REPLICAS = 2


def digits(store: Store, version: str) -> Json:
    uri = store.version(version)
    return model_deployment(
        NAME, uri, version=version, replicas=REPLICAS, rollout={"surge": 0, "scaleDownDelay": "2s"}
    )


def most_at_once(sightings: list[Sighting]) -> int:
    """Return how many of the objects watched there were at once, at most."""
    present: set[str] = set()
    most = 0
    for seen in sightings:
        uid = seen.body["metadata"]["uid"]
        (present.discard if seen.event == "DELETED" else present.add)(uid)
        most = max(most, len(present))
    return most


def test_each_pod_goes_before_the_next_comes(system: System, kubectl: Kubectl, store: Store) -> None:
    kubectl.apply(digits(store, "1"))
    kubectl.wait_ready(NAME)
    with (
        Watch(kubectl, "pods", f"--selector=pilothouse.dev/model={NAME}") as pods,
        Recording(kubectl, NAME) as recording,
        load(kubectl, system.references["runtime"], NAME, renew=1) as running,
    ):
        kubectl.apply(digits(store, "2"))
        status = kubectl.wait_ready(NAME)
        assert status["stableVersion"] == "2"
        tally = running.more()
        assert tally["failed"] == 0, tally["failures"]
        assert set(tally["versions"]) == {"1", "2"}
    assert most_at_once(pods.sightings) == REPLICAS
    recording.check_told_the_truth()
