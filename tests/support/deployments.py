"""ModelDeployments as users write them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

# Bounds that only a broken model breaks on a small machine that starts pods all the while.
LENIENT: Json = {
    "interval": "2s",
    "minRequests": 20,
    "maxErrorRate": "1%",
    "maxLatencyP99": "5s",
    "maxLatencyP99Increase": "2000%",
    "failureLimit": 2,
}


def model_deployment(name: str, uri: str, *, version: str = "1", **spec: Any) -> Json:
    """Return a ModelDeployment; `model` and `rollout` in `spec` are merged, the rest is taken as it is."""
    model = {"uri": uri, "version": version, **spec.pop("model", {})}
    rollout = {"progressDeadline": "3m", "scaleDownDelay": "5s", **spec.pop("rollout", {})}
    return {
        "apiVersion": "pilothouse.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": model, "rollout": rollout, **spec},
    }


def canary(*steps: Json, **rollout: Any) -> Json:
    """Return the rollout of a canary with short clocks."""
    return {"strategy": "Canary", "steps": list(steps), "scaleDownDelay": "2s", **rollout}


def blue_green(**rollout: Any) -> Json:
    """Return the rollout of a blue/green one."""
    return {"strategy": "BlueGreen", **rollout}


def validation(uri: str, **more: Any) -> Json:
    """Return a validation that good models of digits pass by far, and models that are no good fail by far."""
    return {"uri": uri, "metric": "accuracy", "min": 0.9, "timeout": "60s", **more}
