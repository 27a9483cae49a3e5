"""Objects that the ports' contract is tried on."""

from __future__ import annotations

from typing import Any

from pilothouse.api import names
from pilothouse.plan.actions import Delete, Label, Notice
from pilothouse.plan.seen import Json

MODEL = "digits"
REVISION = "digits-0123456789"
SPEC: Json = {"model": {"uri": "file:///models/digits.pt"}}
STATUS: Json = {
    "observedGeneration": 1,
    "replicas": 2,
    "readyReplicas": 1,
    "stableRevision": REVISION,
    "revisions": [
        {
            "name": REVISION,
            "number": 1,
            "uri": "file:///models/digits.pt",
            "state": "Stable",
            "since": "2026-01-01T12:00:00Z",
            "loading": {
                "phase": "Pulling",
                "since": "2026-01-01T12:00:00Z",
                "pods": 1,
                "observedAt": "2026-01-01T12:00:03Z",
            },
            "loadTime": "3.2s",
            "phases": [{"phase": "Verified", "took": "0ms"}, {"phase": "Loading", "took": "3.2s"}],
        }
    ],
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
CPU: Json = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
}
CONCURRENCY: Json = {
    "type": "Pods",
    "pods": {
        "metric": {"name": "pilothouse_requests_in_flight"},
        "target": {"type": "AverageValue", "averageValue": "8"},
    },
}
VALIDATION = "digits-0123456789-validation"
NOTICE = Notice("Warning", "ModelLoadFailed", "the file is no model")


def deletion(body: Json) -> Delete:
    """Return the deletion of exactly this object."""
    meta = body["metadata"]
    return Delete(body["apiVersion"], body["kind"], meta["namespace"], meta["name"], meta["uid"])


def labelling(pod: Json, value: str) -> Label:
    """Return the setting of one label of exactly this pod."""
    meta = pod["metadata"]
    return Label(meta["namespace"], meta["name"], meta["uid"], names.LABEL_SERVING, value)


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


GRPC: Json = {
    "name": "grpc",
    "port": 8081,
    "targetPort": "grpc",
    "protocol": "TCP",
    "appProtocol": "kubernetes.io/h2c",
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


def job(owner: Json) -> Json:
    """Return a Job of `owner`, with pods as validations have them; suspended by what no node can give it."""
    labels = {**names.child_labels(owner["metadata"]["name"], None), names.LABEL_VALIDATION: REVISION}
    container = {
        "name": "validate",
        "image": "none",
        "env": [{"name": "A", "value": "b"}],
        "resources": {"requests": {"cpu": "1000"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(owner, VALIDATION),
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }


def budget(owner: Json, api_version: str) -> Json:
    """Return a PodDisruptionBudget of `owner`."""
    return {
        "apiVersion": api_version,
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, MODEL),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": owner["metadata"]["name"]}}},
    }


def autoscaler(owner: Json, api_version: str, *metrics: Json) -> Json:
    """Return a HorizontalPodAutoscaler of `owner`, by default with one metric of each kind that we use."""
    target = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": owner["metadata"]["name"]}
    return {
        "apiVersion": api_version,
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(owner, MODEL),
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": 1,
            "maxReplicas": 4,
            "metrics": list(metrics) or [CONCURRENCY, CPU],
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
        # A token for it would have to be made first, which takes a new namespace's controllers a moment.
        "spec": {"automountServiceAccountToken": False, "containers": [{"name": "model", "image": "none"}]},
    }


def endpoint_slice(namespace: str, api_version: str) -> Json:
    """Return an EndpointSlice as Kubernetes writes one of the model's Service."""
    target = {"kind": "Pod", "name": "digits-pod", "namespace": namespace, "uid": "1"}
    return {
        "apiVersion": api_version,
        "kind": "EndpointSlice",
        "metadata": {
            "name": "digits-slice",
            "namespace": namespace,
            "labels": {**names.child_labels(MODEL, None), "kubernetes.io/service-name": MODEL},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}, "targetRef": target}],
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
