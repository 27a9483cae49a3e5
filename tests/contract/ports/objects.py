"""Objects that the ports' contract is tried on."""

from __future__ import annotations

from typing import Any

from pilothouse.api import names
from pilothouse.plan.actions import Delete, Notice
from pilothouse.plan.seen import Json

MODEL = "digits"
REVISION = "digits-0123456789"
SPEC: Json = {"model": {"uri": "file:///models/digits.pt"}}
STATUS: Json = {
    "observedGeneration": 1,
    "replicas": 2,
    "readyReplicas": 1,
    "stableRevision": REVISION,
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Progressing",
            "message": "1 of 2 pods ready",
            "lastTransitionTime": "2026-01-01T12:00:00Z",
            "observedGeneration": 1,
        }
    ],
}
NOTICE = Notice("Warning", "ModelLoadFailed", "the file is no model")


def deletion(body: Json) -> Delete:
    """Return the deletion of exactly this object."""
    meta = body["metadata"]
    return Delete(body["apiVersion"], body["kind"], meta["namespace"], meta["name"], meta["uid"])


def metadata(owner: Json, name: str) -> Json:
    """Return the metadata of a child of `owner`."""
    meta = owner["metadata"]
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {
        "name": name,
        "namespace": meta["namespace"],
        "labels": names.child_labels(meta["name"], None),
        "ownerReferences": [reference | {"controller": True}],
    }


def service(owner: Json, name: str = MODEL) -> Json:
    """Return a Service of `owner`."""
    spec = {
        "selector": {"app": "x"},
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(owner, name), "spec": spec}


def deployment(owner: Json, replicas: int = 0) -> Json:
    """Return a Deployment of `owner`; without replicas by default, as nothing may run its pods."""
    labels = {"app": owner["metadata"]["name"]}
    containers = [{"name": "model", "image": "none", "env": [{"name": "A", "value": "b"}]}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, REVISION),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": dict(labels)}, "spec": {"containers": containers}},
        },
    }


def revision(owner: Json) -> Json:
    """Return a ControllerRevision of `owner`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(owner, REVISION),
        "revision": 1,
        "data": {"model": {"uri": "file:///m.pt"}, "template": {"spec": {"containers": [{"name": "model"}]}}},
    }


def pod(namespace: str) -> Json:
    """Return a pod of the model, as a ReplicaSet would make it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "digits-pod",
            "namespace": namespace,
            "labels": names.child_labels(MODEL, REVISION),
        },
        "spec": {"containers": [{"name": "model", "image": "none"}]},
    }


def condition(kind: str) -> dict[str, Any]:
    """Return a condition that is true."""
    return {
        "type": kind,
        "status": "True",
        "reason": "Progressing",
        "message": "words",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
