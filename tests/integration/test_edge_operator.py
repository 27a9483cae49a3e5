"""The operator as a process: it starts, leads, works, stands by and ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from dev.cluster import Cluster
from pilothouse.api import names
from pilothouse.app import LEASE_NAME
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.seen import Json
from tests.contract.ports import objects
from tests.support import control_plane
from tests.support.waiting import eventually

CHECKOUT = Path(__file__).parents[2]


class OperatorProcess:
    """An operator that runs."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> list[Json]:
        """What it has logged so far; each line must be a JSON object."""
        return [
            json.loads(line)
            for line in self._log.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]

    async def logs(self, pattern: str) -> re.Match[str]:
        """Wait until it logs something that matches."""

        def found() -> re.Match[str] | None:
            matches = (re.search(pattern, line["msg"]) for line in self.log)
            return next((match for match in matches if match), None)

        await eventually(lambda: found() is not None or self.process.returncode is not None)
        match = found()
        assert match is not None, self._log.read_text()
        return match

    async def probe(self, path: str) -> tuple[int, str]:
        """Ask one of its addresses."""
        port = (await self.logs(r"on port (\d+)"))[1]
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{port}{path}")
        return response.status_code, response.text.strip()

    async def ready(self) -> bool:
        return await self.probe("/readyz") == (200, "ok")


@asynccontextmanager
async def operator(
    kubeconfig: Path, namespace: str, log: Path, **more: str
) -> AsyncIterator[OperatorProcess]:
    """Run an operator for one namespace meanwhile; it is killed if it has not ended by then."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PILOTHOUSE_")},
        "KUBECONFIG": str(kubeconfig),
        "PYTHONPATH": f"{CHECKOUT / 'operator'}:{CHECKOUT / 'runtime'}",
        "PILOTHOUSE_NAMESPACES": namespace,
        "PILOTHOUSE_LEASE_NAMESPACE": namespace,
        "PILOTHOUSE_RUNTIME_IMAGE": "none",
        "PILOTHOUSE_HTTP_PORT": "0",
        **more,
    }
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pilothouse", env=environment, stderr=stderr
        )
    try:
        yield OperatorProcess(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(operator: OperatorProcess) -> int:
    return await asyncio.wait_for(operator.process.wait(), 60)


async def holder(client: Client, namespace: str) -> str:
    lease = await control_plane.get(client, "Lease", namespace, LEASE_NAME)
    return str(lease["spec"]["holderIdentity"]) if lease else ""


async def test_it_works_and_ends_cleanly_when_told_to(
    cluster: Cluster, client: Client, namespace: str, tmp_path: Path
) -> None:
    body = await control_plane.create(
        client,
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"namespace": namespace, "name": objects.MODEL},
            "spec": objects.SPEC,
        },
    )
    children = {"Deployment": 1, "Service": 2, "ControllerRevision": 1}

    async def made() -> bool:
        found = {kind: len(await client.list_all(paths.collection(kind, namespace))) for kind in children}
        live = await control_plane.get(client, names.KIND, namespace, objects.MODEL)
        assert live is not None
        return found == children and live.get("status", {}).get("observedGeneration") == 1

    async with operator(cluster.kubeconfig, namespace, tmp_path / "log") as process:
        await eventually(made)
        assert await process.probe("/healthz") == (200, "ok")
        assert await process.ready()
        metrics = (await process.probe("/metrics"))[1]
        assert "pilothouse_leader 1.0" in metrics
        assert f'pilothouse_model_ready{{name="{objects.MODEL}",namespace="{namespace}"}} 0.0' in metrics
        assert await holder(client, namespace) != ""
        process.process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert await holder(client, namespace) == ""
        assert {line["key"] for line in process.log if "key" in line} == {f"{namespace}/{objects.MODEL}"}
    live = await control_plane.get(client, names.KIND, namespace, objects.MODEL)
    assert live is not None
    assert live["spec"] == body["spec"]
    assert not {"annotations", "finalizers"} & live["metadata"].keys()


async def test_a_standby_is_ready_and_takes_over(
    cluster: Cluster, client: Client, namespace: str, tmp_path: Path
) -> None:
    async with (
        operator(cluster.kubeconfig, namespace, tmp_path / "first") as first,
        operator(cluster.kubeconfig, namespace, tmp_path / "second") as second,
    ):
        await eventually(lambda: leads(first) or leads(second))
        leader, standby = (first, second) if leads(first) else (second, first)
        await eventually(standby.ready)
        assert await standby.probe("/healthz") == (200, "ok")
        assert "pilothouse_leader 0.0" in (await standby.probe("/metrics"))[1]
        assert not leads(standby)
        leader.process.send_signal(signal.SIGTERM)
        assert await ended(leader) == 0
        await standby.logs("^leading$")
        await eventually(standby.ready)
        standby.process.send_signal(signal.SIGTERM)
        assert await ended(standby) == 0


def leads(operator: OperatorProcess) -> bool:
    return any(line["msg"] == "leading" for line in operator.log)


async def test_it_ends_at_once_when_the_lease_is_lost(
    cluster: Cluster, client: Client, namespace: str, tmp_path: Path
) -> None:
    async with operator(cluster.kubeconfig, namespace, tmp_path / "log") as process:
        await process.logs("^leading$")
        lease = await client.get(paths.item("Lease", namespace, LEASE_NAME))
        lease["spec"]["holderIdentity"] = "usurper"
        await control_plane.replace(client, lease)
        assert await ended(process) == 1
        assert "was taken by usurper" in process.log[-1]["msg"]
        assert await holder(client, namespace) == "usurper"


async def test_told_to_stop_before_it_leads_it_stops(
    cluster: Cluster, client: Client, namespace: str, tmp_path: Path
) -> None:
    spec = {"holderIdentity": "theirs", "leaseDurationSeconds": 3600}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
    await control_plane.create(client, lease | {"metadata": {"namespace": namespace, "name": LEASE_NAME}})
    async with operator(cluster.kubeconfig, namespace, tmp_path / "log") as process:
        await process.logs("^waiting for the lease")
        process.process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert await holder(client, namespace) == "theirs"


async def test_without_a_cluster_it_ends_and_says_why(tmp_path: Path) -> None:
    async with operator(tmp_path / "nothing-here", "vision", tmp_path / "log") as process:
        assert await ended(process) == 1
        assert "set KUBECONFIG" in process.log[-1]["msg"]


async def test_with_a_wrong_configuration_it_ends_and_names_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with operator(tmp_path / "any", "vision", log, PILOTHOUSE_LOG_LEVEL="loud") as process:
        assert await ended(process) == 1
    assert log.read_text().startswith("error: PILOTHOUSE_LOG_LEVEL='loud'")
