"""What stands beside a model's pods: an autoscaler that can scale it, and a budget that guards it."""

from __future__ import annotations

import json

import pytest

from tests.support.deployments import model_deployment
from tests.support.kubectl import Json, Kubectl, RefusedError
from tests.support.load import load
from tests.support.models import Store
from tests.support.system import System
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("digits_data")
NAME = "digits"


def replicas(kubectl: Kubectl) -> int:
    return int((kubectl.get("mdep", NAME) or {})["spec"]["replicas"])


def scale(kubectl: Kubectl) -> Json:
    """Return the scale subresource, as an autoscaler reads it."""
    path = f"/apis/pilothouse.dev/v1alpha1/namespaces/{kubectl.namespace}/modeldeployments/{NAME}/scale"
    return dict(json.loads(kubectl("get", "--raw", path)))


def evicted(kubectl: Kubectl, pod: str) -> bool:
    """Ask for an eviction, as `kubectl drain` does, and return whether the model's budget allowed it."""
    budget = kubectl.get("pdb", NAME)
    assert budget is not None
    meta = {"name": pod, "namespace": kubectl.namespace}
    eviction = {"apiVersion": budget["apiVersion"], "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    try:
        kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
    except RefusedError as error:
        if "disruption budget" not in str(error):
            raise
        return False
    return True


def test_an_autoscaler_scales_the_model_and_a_budget_guards_its_pods(
    system: System, kubectl: Kubectl, store: Store
) -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 3, "target": {"cpu": 80}}
    runtime = {"resources": {"requests": {"cpu": "50m"}}}
    kubectl.apply(model_deployment(NAME, store.version("1"), runtime=runtime, autoscaling=scaling))
    revision = kubectl.wait_ready(NAME)["stableRevision"]
    pods = kubectl.pods(revision)
    assert len(pods) == 2, "the bounds hold at once, without an autoscaler's having looked"
    # The cluster's autoscaler finds what it is to scale, and brings that within the bounds: it needs no metrics for it.
    until(lambda: replicas(kubectl) == 2, seconds=60, what=lambda: kubectl("describe", "hpa", NAME))
    status = scale(kubectl)["status"]
    selected = kubectl.list("pods", status["selector"])
    assert {pod["metadata"]["uid"] for pod in selected} == pods
    assert status["replicas"] == 2

    # A node is drained: one pod may go, the other only once there is a new one.
    first, second = (pod["metadata"]["name"] for pod in selected)
    with load(kubectl, system.references["runtime"], NAME, renew=1) as running:
        assert evicted(kubectl, first)
        assert not evicted(kubectl, second)
        until(lambda: evicted(kubectl, second), what=lambda: kubectl("get", "pods"))
        until(lambda: kubectl.ready(NAME) and kubectl.pods(revision).isdisjoint(pods))
        tally = running.more()
    assert tally["failed"] == 0, tally["failures"]
