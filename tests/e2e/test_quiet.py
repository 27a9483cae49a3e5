"""When nothing changes, nothing is written: counted at the API server."""

from __future__ import annotations

import re
from collections import Counter

from tests.support.deployments import model_deployment
from tests.support.kubectl import Kubectl
from tests.support.models import Models, Store
from tests.support.waiting import holds_for, until

_WRITES = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
# Events are counted by themselves: the kubelet writes some, for the model that keeps failing.
_OURS = {"modeldeployments", "deployments", "services", "controllerrevisions"}
_MINUTES = 3


def writes(kubectl: Kubectl) -> Counter[str]:
    """Return how many writes the server has taken of the kinds of objects that the operator writes."""
    found: Counter[str] = Counter()
    for labels, count in _WRITES.findall(kubectl("get", "--raw", "/metrics")):
        of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if of["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE") and of["resource"] in _OURS:
            found[f"{of['verb']} {of['resource']}/{of.get('subresource', '')}"] += int(float(count))
    return found


def versions(kubectl: Kubectl) -> dict[str, str]:
    """Return the resourceVersion of everything in the namespace that the operator writes."""
    objects = kubectl.list("modeldeployments,deployments,services,controllerrevisions")
    told = [e for e in kubectl.list("events") if e["involvedObject"].get("kind") == "ModelDeployment"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in [*objects, *told]
    }


def test_unchanged_models_cost_no_write(kubectl: Kubectl, models: Models, store: Store) -> None:
    kubectl.apply(
        model_deployment("one", store.version("1")),
        model_deployment("two", store.version("2"), replicas=2),
        model_deployment("none", store.url("digits.pt", "404")),
    )
    kubectl.wait_ready("one")
    kubectl.wait_ready("two")
    kubectl.wait_stalled("none")
    rested = versions(kubectl)

    def resting() -> bool:
        nonlocal rested
        before, rested = rested, versions(kubectl)
        return before == rested

    # The last events of what went before may still be on their way.
    until(resting, seconds=60, every=5)
    before = writes(kubectl)
    holds_for(lambda: versions(kubectl) == rested, seconds=60 * _MINUTES, every=15)
    assert writes(kubectl) - before == Counter()
    kubectl("delete", "mdep", "--all")
