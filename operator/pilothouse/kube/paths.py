"""Where things are at an API server (Kubernetes API Concepts, "Resource URIs")."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from pilothouse.api import names

# What the operator touches, by kind: API version and plural.
_RESOURCES: Final = {
    names.KIND: (names.API_VERSION, names.PLURAL),
    "Deployment": ("apps/v1", "deployments"),
    "ControllerRevision": ("apps/v1", "controllerrevisions"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
}


def collection(kind: str, namespace: str | None) -> str:
    """Return the path of all objects of a kind in a namespace, or in all of them where it is None."""
    api_version, plural = _RESOURCES[kind]
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return (
        f"{root}/{plural}" if namespace is None else f"{root}/namespaces/{quote(namespace, safe='')}/{plural}"
    )


def item(kind: str, namespace: str, name: str) -> str:
    """Return the path of one object."""
    return f"{collection(kind, namespace)}/{quote(name, safe='')}"
