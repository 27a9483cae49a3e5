"""ModelDeployments as users write them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def model_deployment(name: str, uri: str, *, version: str = "1", **spec: Any) -> Json:
    """Return a ModelDeployment; `model` and `rollout` in `spec` are merged, the rest is taken as it is."""
    model = {"uri": uri, "version": version, **spec.pop("model", {})}
    rollout = {"progressDeadline": "90s", "scaleDownDelay": "5s", **spec.pop("rollout", {})}
    return {
        "apiVersion": "pilothouse.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": model, "rollout": rollout, **spec},
    }
