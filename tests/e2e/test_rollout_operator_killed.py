"""The operator is killed in each phase of two rollouts: both end as they would have, and no user notices."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from pilothouse.api.conditions import Phase
from tests.support.deployments import blue_green, canary, model_deployment, validation
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load
from tests.support.models import Store
from tests.support.recording import Recording
from tests.support.system import System
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("digits_data")
# Two replicas and small weights: one pod for both steps, and another one for the promotion.
STEPS = ({"weight": 10, "for": "2s"}, {"weight": 30, "for": "2s"})
ANALYSIS = {"interval": "2s", "minRequests": 10, "maxErrorRate": "1%"}
# A step's number belongs to its phase.
Place = tuple[str, int | None]
CANARY: set[Place] = {
    (Phase.PROGRESSING, None),
    (Phase.VALIDATING, None),
    (Phase.SHIFTING, 1),
    (Phase.SHIFTING, 2),
    (Phase.PROMOTING, 2),
    (Phase.COMPLETE, None),
}
BLUE_GREEN: set[Place] = {
    (Phase.PROGRESSING, None),
    (Phase.VALIDATING, None),
    (Phase.AWAITING, None),
    (Phase.COMPLETE, None),
}


def models(store: Store, version: str) -> dict[str, Json]:
    """Return both models, by name."""
    gate = validation(store.golden)
    ways = {
        "canary": canary(*STEPS, analysis=ANALYSIS, validation=gate),
        "blue-green": blue_green(autoPromote=False, validation=gate, scaleDownDelay="2s"),
    }
    replicas = {"canary": 2, "blue-green": 1}
    uri = store.version(version)
    return {
        name: model_deployment(name, uri, version=version, replicas=replicas[name], rollout=way)
        for name, way in ways.items()
    }


def place(status: Json, old: str) -> Place | None:
    """Return how far the rollout of another revision than the old one is, or None where there is none."""
    rollout = status["rollout"]
    return None if rollout["revision"] == old else (rollout["phase"], rollout.get("step"))


def test_killed_in_each_phase_of_a_canary_and_of_a_blue_green_rollout(
    system: System, kubectl: Kubectl, store: Store
) -> None:
    kubectl.apply(*models(store, "1").values())
    old = {name: kubectl.wait_ready(name)["stableRevision"] for name in models(store, "1")}
    killed: dict[str, set[Place | None]] = {name: set() for name in old}
    with ExitStack() as stack:
        told = {name: stack.enter_context(Recording(kubectl, name)) for name in old}
        image = system.references["runtime"]
        loads = {
            name: stack.enter_context(load(kubectl, image, name, renew=1, connections=2, pause=0.05))
            for name in old
        }

        def somewhere_new() -> bool:
            now = {name: place(told[name].states[-1].status, old[name]) for name in old}
            return any(at is not None and at not in killed[name] for name, at in now.items())

        def over() -> bool:
            return all((Phase.COMPLETE, None) in places for places in killed.values())

        kubectl.apply(*models(store, "2").values())
        while not over():
            until(somewhere_new, seconds=120, every=0.02, what=lambda: f"so far killed in {killed}")
            system.crash_operator()
            for name, places in killed.items():
                places.add(place(kubectl.status(name), old[name]))
            if (Phase.AWAITING, None) in killed["blue-green"]:
                # Given once, whoever is alive to hear it.
                revision = kubectl.status("blue-green")["rollout"]["revision"]
                kubectl.command("blue-green", "promote", revision)
        for name in old:
            status = kubectl.wait_ready(name)
            assert [entry["outcome"] for entry in status["history"]] == ["Promoted", "Promoted"]
            assert status["stableVersion"] == "2"
            kubectl.wait_gone(old[name])
            tally = loads[name].more(20)
            assert tally["failed"] == 0, tally["failures"]
            assert set(tally["versions"]) == {"1", "2"}
    assert killed["canary"] >= CANARY, killed
    assert killed["blue-green"] >= BLUE_GREEN, killed
    for recording in told.values():
        # Between what was written and what was done by it lies a new operator's start.
        recording.check_told_the_truth(lag=30)
