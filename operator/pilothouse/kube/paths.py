"""Where things are at an API server (Kubernetes API Concepts, "Resource URIs")."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from pilothouse.api import names

# What the operator touches, by kind: API version and plural. Of those without a version clusters serve different ones
# (see `pilothouse.kube.discovery`).
_RESOURCES: Final[dict[str, tuple[str | None, str]]] = {
    names.KIND: (names.API_VERSION, names.PLURAL),
    "Deployment": ("apps/v1", "deployments"),
    "ControllerRevision": ("apps/v1", "controllerrevisions"),
    "Job": ("batch/v1", "jobs"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "PodDisruptionBudget": (None, "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": (None, "horizontalpodautoscalers"),
    "EndpointSlice": (None, "endpointslices"),
    "Event": ("v1", "events"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
}


def collection(kind: str, namespace: str | None, api_version: str | None = None) -> str:
    """Return the path of all objects of a kind in a namespace, or in all of them where it is None.

    Raises:
        ValueError: clusters serve this kind in different API versions, and none was given.
    """
    known, plural = _RESOURCES[kind]
    version = api_version or known
    if version is None:
        raise ValueError(f"{kind}: clusters differ in its API version, so it must be given")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return (
        f"{root}/{plural}" if namespace is None else f"{root}/namespaces/{quote(namespace, safe='')}/{plural}"
    )


def item(kind: str, namespace: str, name: str, api_version: str | None = None) -> str:
    """Return the path of one object. Raises as `collection` does."""
    return f"{collection(kind, namespace, api_version)}/{quote(name, safe='')}"
