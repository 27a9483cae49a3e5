"""Events of a real API server, through kopf, as keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import Cluster
from pilothouse.api import names
from pilothouse.edge.source import Source, SourceDiedError
from pilothouse.kube.client import Client, Credentials, NoClusterError, load_credentials
from pilothouse.kube.discovery import discover
from pilothouse.plan.seen import Json, Key
from tests.contract.ports import objects
from tests.support import cluster as clusters
from tests.support import control_plane
from tests.support.kubectl import Kubectl
from tests.support.outage import cuttable
from tests.support.waiting import eventually


class Inbox:
    """The keys that came."""

    def __init__(self) -> None:
        self.keys: list[Key] = []

    async def waits_for(self, key: Key) -> None:
        await eventually(lambda: key in self.keys)


@asynccontextmanager
async def watching(*namespaces: str, **more: Any) -> AsyncIterator[Inbox]:
    """Watch meanwhile."""
    inbox = Inbox()
    async with await Client.connect() as client:
        served = await discover(client)
    source = Source(
        notify=inbox.keys.append,
        namespaces=namespaces,
        slice_api=served.slice_api,
        **{"credentials": load_credentials} | more,
    )
    source.start()
    try:
        yield inbox
        assert await source.responsive()
    finally:
        await source.stop()
        assert not await source.responsive()


async def create(client: Client, namespace: str, name: str = objects.MODEL, **meta: Any) -> Json:
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"namespace": namespace, "name": name, **meta},
        "spec": objects.SPEC,
    }
    return await control_plane.create(client, manifest)


@pytest.mark.parametrize("clusterwide", [True, False])
async def test_models_that_are_there_that_come_that_change_and_that_go(
    client: Client, namespace: str, clusterwide: bool
) -> None:
    body = await create(client, namespace, "early")
    async with watching(*([] if clusterwide else [namespace])) as inbox:
        await inbox.waits_for(Key(namespace, "early"))
        await create(client, namespace, "late")
        await inbox.waits_for(Key(namespace, "late"))
        for change in (
            control_plane.replace(client, body | {"spec": body["spec"] | {"replicas": 2}}),
            control_plane.delete(client, names.KIND, namespace, "early"),
        ):
            inbox.keys.clear()
            await change
            await inbox.waits_for(Key(namespace, "early"))


async def test_children_lead_to_their_model_and_strangers_to_nothing(client: Client, namespace: str) -> None:
    body = await create(client, namespace)
    async with watching(namespace) as inbox:
        await inbox.waits_for(Key(namespace, objects.MODEL))
        for manifest in (objects.deployment(body), objects.service(body), objects.job(body)):
            inbox.keys.clear()
            child = await control_plane.create(client, manifest)
            await inbox.waits_for(Key(namespace, objects.MODEL))
            inbox.keys.clear()
            await control_plane.delete(client, child["kind"], namespace, child["metadata"]["name"])
            await inbox.waits_for(Key(namespace, objects.MODEL))
        stranger = objects.service(body, "stranger")
        stranger["metadata"]["labels"] = {"app": "stranger"}
        await control_plane.create(client, stranger)
        # What comes after the stranger on the same watch proves that the stranger's event went by.
        await control_plane.create(
            client, objects.service(body | {"metadata": body["metadata"] | {"name": "last"}}, "last")
        )
        await inbox.waits_for(Key(namespace, "last"))
        assert set(inbox.keys) == {Key(namespace, objects.MODEL), Key(namespace, "last")}


async def test_other_namespaces_are_not_watched(client: Client, namespace: str) -> None:
    async with watching(namespace) as inbox:
        await create(client, "default", f"elsewhere-{namespace}")
        try:
            await create(client, namespace)
            await inbox.waits_for(Key(namespace, objects.MODEL))
            assert {key.namespace for key in inbox.keys} == {namespace}
        finally:
            await control_plane.delete(client, names.KIND, "default", f"elsewhere-{namespace}")


async def test_kopf_writes_nothing(client: Client, namespace: str) -> None:
    theirs = ["kopf.zalando.org/KopfFinalizerMarker"]
    before = [await create(client, namespace), await create(client, namespace, "marked", finalizers=theirs)]
    child = await control_plane.create(client, objects.service(before[0]))
    async with watching(namespace) as inbox:
        await inbox.waits_for(Key(namespace, "marked"))
        await control_plane.replace(client, before[0] | {"spec": objects.SPEC | {"replicas": 2}})
        await create(client, namespace, "last")
        await inbox.waits_for(Key(namespace, "last"))
    for body in (*before, child):
        meta = body["metadata"]
        live = await control_plane.get(client, body["kind"], namespace, meta["name"])
        assert live is not None
        assert "annotations" not in live["metadata"]
        assert live["metadata"].get("finalizers") == meta.get("finalizers")
        if meta["name"] != objects.MODEL or body["kind"] != names.KIND:
            assert live == body
    marked = before[1]
    del marked["metadata"]["finalizers"]
    await control_plane.replace(client, marked)


async def test_an_outage_is_outlived(
    cluster: Cluster, client: Client, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cuttable(cluster.kubeconfig, tmp_path) as (proxy, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        await create(client, namespace, "before")
        async with watching(namespace) as inbox:
            await inbox.waits_for(Key(namespace, "before"))
            await proxy.cut()
            await create(client, namespace, "meanwhile")
            await asyncio.sleep(5)  # the outage lasts, and attempts to reconnect fail
            assert Key(namespace, "meanwhile") not in inbox.keys
            await proxy.start()
            await inbox.waits_for(Key(namespace, "meanwhile"))
            await create(client, namespace, "after")
            await inbox.waits_for(Key(namespace, "after"))


async def test_rights_in_one_namespace_are_enough_there(
    cluster: Cluster, client: Client, namespace: str
) -> None:
    kubectl = Kubectl(cluster.kubeconfig, namespace)
    kubectl("create", "serviceaccount", "operator")
    resources = f"{names.PLURAL}.{names.GROUP},deployments.apps,jobs.batch,services"
    kubectl("create", "role", "operator", "--verb=list,watch", f"--resource={resources}")
    kubectl("create", "rolebinding", "operator", "--role=operator", f"--serviceaccount={namespace}:operator")
    token = kubectl("create", "token", "operator").strip()

    async def as_operator() -> Credentials:
        return replace(await load_credentials(), token=token, certificate_path=None, private_key_path=None)

    body = await create(client, namespace)
    async with watching(namespace, credentials=as_operator) as inbox:
        await inbox.waits_for(Key(namespace, objects.MODEL))
        inbox.keys.clear()
        await control_plane.create(client, objects.service(body))
        await inbox.waits_for(Key(namespace, objects.MODEL))


async def test_a_thread_that_ends_unasked_is_told_with_its_reason(namespace: str) -> None:
    async def no_credentials() -> Credentials:
        raise NoClusterError("no way to the API server")

    source = Source(
        notify=lambda _: None,
        namespaces=[namespace],
        credentials=no_credentials,
        slice_api="discovery.k8s.io/v1",
    )
    source.start()
    with pytest.raises(SourceDiedError, match="no way to the API server"):
        await asyncio.wait_for(source.failed(), 60)
    assert not await source.responsive()
    await source.stop()


@pytest.fixture
def stoppable(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose API server may be stopped: never the user's own."""
    if cluster.embedded:
        yield cluster
        return
    monkeypatch.delenv("KUBECONFIG")
    with clusters.control_plane("tests-api") as own:
        control_plane.install_crd(own)
        yield own


async def test_a_restart_of_the_api_server_is_outlived(
    stoppable: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(stoppable.kubeconfig))
    with clusters.namespace(stoppable) as namespace:
        async with await Client.connect() as client, watching(namespace) as inbox:
            await create(client, namespace, "before")
            await inbox.waits_for(Key(namespace, "before"))
            await asyncio.to_thread(stoppable.stop_apiserver)
            await asyncio.to_thread(stoppable.start_apiserver)
            await create(client, namespace, "after")
            await inbox.waits_for(Key(namespace, "after"))
