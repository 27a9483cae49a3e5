"""What stands beside a model's pods: the budget for evictions, and the autoscaler where one is asked for."""

from __future__ import annotations

from pilothouse.api import names
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.revisions import child_metadata
from pilothouse.plan.seen import Json
from pilothouse.plan.template import Defaults
from pilothouse_runtime.contract import METRIC_IN_FLIGHT

# As many as may be missing of a model that is still called Available. Of one to four pods this is one: a drained node
# must never wait for ever for the only pod of a model.
_MAX_UNAVAILABLE = "25%"


def budget(owner: Json, revision: str, defaults: Defaults) -> Json:
    """Return the PodDisruptionBudget of a model: it guards the pods of the revision that answers for the model.

    Not those of a candidate: one that never becomes ready would keep every node from being drained.
    """
    name = owner["metadata"]["name"]
    return {
        "apiVersion": defaults.budget_api,
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(owner, name, None),
        "spec": {
            "maxUnavailable": _MAX_UNAVAILABLE,
            "selector": {"matchLabels": names.pod_selector(name, revision)},
        },
    }


def autoscaler(owner: Json, spec: ModelDeploymentSpec, defaults: Defaults) -> Json | None:
    """Return the HorizontalPodAutoscaler that `spec.autoscaling` asks for; it scales the ModelDeployment itself."""
    scaling = spec.autoscaling
    if scaling is None:
        return None
    name = owner["metadata"]["name"]
    return {
        "apiVersion": defaults.autoscaler_api,
        "kind": "HorizontalPodAutoscaler",
        "metadata": child_metadata(owner, name, None),
        "spec": {
            "scaleTargetRef": {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": name},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [_metric(scaling.target.cpu, scaling.target.concurrency)],
        },
    }


def _metric(cpu: int | None, concurrency: int | None) -> Json:
    if cpu is not None:
        target: Json = {"type": "Utilization", "averageUtilization": cpu}
        return {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    target = {"type": "AverageValue", "averageValue": str(concurrency)}
    return {"type": "Pods", "pods": {"metric": {"name": METRIC_IN_FLIGHT}, "target": target}}
