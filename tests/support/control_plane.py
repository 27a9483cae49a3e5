"""A user of a real API server, for tests of what talks to it."""

from __future__ import annotations

import json
from pathlib import Path

from dev.cluster import Cluster
from pilothouse.api import names
from pilothouse.control.errors import ConflictError, GoneError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.seen import Json
from tests.support.kubectl import Kubectl, RefusedError
from tests.support.waiting import eventually, until

_CRDS = Path(__file__).parents[2] / "crds"


def install_crd(cluster: Cluster) -> None:
    """Apply our CustomResourceDefinition, and wait until it is served."""
    kubectl = Kubectl(cluster.kubeconfig)
    # CEL rules are in the CRD from Kubernetes 1.25 on; before that they are unknown fields, which apply refuses.
    minor = json.loads(kubectl("get", "--raw", "/version"))["minor"]
    old = int(minor.rstrip("+")) < 25
    crd = _CRDS / ("modeldeployments-kubernetes-1.20.yaml" if old else "modeldeployments.yaml")
    kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(crd))
    # Not `kubectl wait`, which takes the first moment, in which the conditions are null, for an error.
    until(lambda: _serves(kubectl), what=lambda: "ModelDeployments are served")


def _serves(kubectl: Kubectl) -> bool:
    try:
        kubectl("get", names.PLURAL)
    except RefusedError:
        return False
    return True


async def create(client: Client, manifest: Json) -> Json:
    """Create an object of a kind that the operator knows, in the API version that it names."""
    path = paths.collection(manifest["kind"], manifest["metadata"]["namespace"], manifest["apiVersion"])
    return await client.request("POST", path, body=manifest)


async def replace(client: Client, body: Json) -> Json:
    """Replace an object, whichever version it has by now."""
    meta = body["metadata"]
    path = paths.item(body["kind"], meta["namespace"], meta["name"])
    while True:
        meta["resourceVersion"] = (await client.get(path))["metadata"]["resourceVersion"]
        try:
            return await client.request("PUT", path, body=body)
        except ConflictError:
            continue


async def get(client: Client, kind: str, namespace: str, name: str) -> Json | None:
    """Return an object, or None where there is none."""
    try:
        return await client.get(paths.item(kind, namespace, name))
    except GoneError:
        return None


async def delete(client: Client, kind: str, namespace: str, name: str) -> None:
    """Delete an object and wait until it is gone."""

    async def gone() -> bool:
        return await get(client, kind, namespace, name) is None

    path = paths.item(kind, namespace, name)
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    await client.request("DELETE", path, body=options)
    await eventually(gone)
