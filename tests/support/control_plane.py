"""A real API server for tests: the embedded control plane (or the cluster that KUBECONFIG names), and a user of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dev.cluster import cluster, external
from pilothouse.api import names
from pilothouse.control.errors import ConflictError, GoneError, PilothouseError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.seen import Json

_CRDS = Path(__file__).parents[2] / "crds"
# Apart from the cluster that people start by hand: an operator may be at work there.
_NAME = "tests"


def start() -> cluster.Cluster:
    """Return a cluster that has our CustomResourceDefinition and perhaps no node; started where none runs."""
    found = cluster.up(_NAME, control_plane_only=True)
    kubectl(
        found.kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", str(_crd(found.kubeconfig))
    )
    crd = f"crd/{names.PLURAL}.{names.GROUP}"
    kubectl(found.kubeconfig, "wait", "--for=condition=Established", crd, "--timeout=60s")
    return found


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl and return what it prints.

    Raises:
        AssertionError: it failed; the message is what it said.
    """
    done = subprocess.run(
        [external.kubectl(), *arguments],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def _crd(kubeconfig: Path) -> Path:
    # CEL rules are in the CRD from Kubernetes 1.25 on; before that they are unknown fields, which apply refuses.
    version = kubectl(kubeconfig, "get", "--raw", "/version")
    old = '"minor": "20"' in version
    return _CRDS / ("modeldeployments-kubernetes-1.20.yaml" if old else "modeldeployments.yaml")


@asynccontextmanager
async def namespace(client: Client) -> AsyncIterator[str]:
    """Make a namespace for one test, and have it deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.request("POST", "/api/v1/namespaces", body=manifest)
    try:
        yield name
    finally:
        await client.request("DELETE", f"/api/v1/namespaces/{name}")


async def create(client: Client, manifest: Json) -> Json:
    """Create an object of a kind that the operator knows."""
    path = paths.collection(manifest["kind"], manifest["metadata"]["namespace"])
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


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.05)


async def answers(client: Client) -> bool:
    """Whether the API server answers."""
    try:
        await client.get("/version")
    except PilothouseError:
        return False
    return True
