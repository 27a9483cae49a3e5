"""Serving does not depend on the operator, and a rollout does not depend on its being there all the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev import images
from tests.support.deployments import model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import load
from tests.support.models import Models, Store
from tests.support.system import System
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"


@pytest.fixture
def served(kubectl: Kubectl, models: Models, store: Store) -> Iterator[Json]:
    """The status of a model whose version 1 serves."""
    kubectl.apply(model_deployment(NAME, store.version("1")))
    yield kubectl.wait_ready(NAME)
    kubectl("delete", "mdep", NAME)
    until(lambda: not kubectl.list("pods", f"pilothouse.dev/model={NAME}"), seconds=90)


def second(models: Models, store: Store) -> Json:
    return model_deployment(NAME, store.version("2"), version="2")


def pods(kubectl: Kubectl) -> set[tuple[str, int]]:
    """Return uid and restarts of every pod of the model."""
    return {
        (pod["metadata"]["uid"], sum(c["restartCount"] for c in pod["status"]["containerStatuses"]))
        for pod in kubectl.list("pods", f"pilothouse.dev/model={NAME}")
    }


def test_operator_killed_again_and_again_in_mid_rollout(
    system: System, kubectl: Kubectl, models: Models, store: Store, served: Json
) -> None:
    with load(kubectl, system.references["runtime"], NAME) as running:
        kubectl.apply(second(models, store))
        # As soon as the rollout is begun, while pods start, and while old pods drain.
        until(lambda: kubectl.status(NAME)["targetRevision"] != served["targetRevision"])
        system.kill_operator()
        system.kill_operator()
        kubectl.wait_ready(NAME, seconds=180)
        system.kill_operator()
        old = f"pilothouse.dev/revision={served['stableRevision']}"
        until(lambda: not kubectl.list("pods", old), seconds=90)
        running.more()
        tally = running.tally()
    assert tally["failed"] == 0, tally["failures"]
    outcomes = [ended["outcome"] for ended in kubectl.status(NAME)["history"]]
    assert outcomes == ["Promoted", "Promoted"]


def test_api_server_away_for_a_minute_in_mid_rollout(
    system: System, kubectl: Kubectl, models: Models, store: Store, served: Json
) -> None:
    with load(kubectl, system.references["runtime"], NAME) as running:
        kubectl.apply(second(models, store))
        until(lambda: kubectl.status(NAME)["targetRevision"] != served["targetRevision"])
        system.cluster.stop_apiserver()
        try:
            system.outage(60)
        finally:
            system.cluster.start_apiserver()
        kubectl.wait_ready(NAME, seconds=180)
        running.more()
        tally = running.tally()
    assert tally["failed"] == 0, tally["failures"]
    assert kubectl.status(NAME)["stableVersion"] == "2"


def test_upgrading_the_operator_restarts_no_model(system: System, kubectl: Kubectl, served: Json) -> None:
    before = pods(kubectl)
    operators = {pod["metadata"]["uid"] for pod in system.operator_pods()}
    upgraded = System(system.cluster, images.ensure(system.cluster, tag="next"))
    try:
        upgraded.install()
        until(lambda: not operators & {pod["metadata"]["uid"] for pod in system.operator_pods()})
        # The new operator has taken over once it has reconciled a change.
        kubectl("patch", "mdep", NAME, "--type=merge", "--patch", '{"spec": {"replicas": 2}}')
        kubectl.wait_ready(NAME)
        assert before < pods(kubectl), "the first pod must still be there, beside the new one"
        assert kubectl.status(NAME)["stableRevision"] == served["stableRevision"]
    finally:
        system.install()


@pytest.mark.usefixtures("served")
def test_uninstalling_the_operator_leaves_models_serving(system: System, kubectl: Kubectl) -> None:
    before = pods(kubectl)
    with load(kubectl, system.references["runtime"], NAME) as running:
        system.uninstall()
        try:
            assert kubectl.get("mdep", NAME) is not None
            running.more(200)
            assert pods(kubectl) == before
            assert running.tally()["failed"] == 0
        finally:
            system.install()
    kubectl.wait_ready(NAME)
    assert pods(kubectl) == before
