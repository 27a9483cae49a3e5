"""What a real API server answers to refusals, as the loop gets to see it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dev.cluster import Cluster
from pilothouse.api import names
from pilothouse.control.errors import BlockedError, ConflictError, GoneError, PilothouseError, TransientError
from pilothouse.kube import paths
from pilothouse.kube.applier import KubeApplier
from pilothouse.kube.client import Client, NoClusterError
from pilothouse.kube.discovery import discover
from pilothouse.kube.events import KubeRecorder
from pilothouse.kube.reader import KubeReader
from pilothouse.plan.actions import Apply
from pilothouse.plan.seen import Json, Key
from tests.contract.ports import objects
from tests.support import control_plane
from tests.support.kubectl import Kubectl
from tests.support.waiting import eventually


@pytest.fixture
async def model(client: Client, namespace: str) -> Json:
    """A ModelDeployment."""
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"namespace": namespace, "name": objects.MODEL},
        "spec": objects.SPEC,
    }
    return await control_plane.create(client, manifest)


@pytest.fixture
async def stranger(
    cluster: Cluster, client: Client, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """A client with a token that the API server knows, and no rights at all."""
    kubectl = Kubectl(cluster.kubeconfig, namespace)
    kubectl("create", "serviceaccount", "stranger")
    token = kubectl("create", "token", "stranger").strip()
    path = tmp_path / "kubeconfig"
    path.write_text(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    own = Kubectl(path, namespace)
    own("config", "set-credentials", "stranger", f"--token={token}")
    own("config", "set-context", "--current", "--user=stranger")
    monkeypatch.setenv("KUBECONFIG", str(path))
    async with await Client.connect() as stranger:
        yield stranger


async def test_a_quota_is_named_and_blocks(client: Client, namespace: str, model: Json) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"count/deployments.apps": "0"}},
    }
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await client.request("POST", path, body=quota)

    async def in_force() -> bool:
        return "used" in (await client.get(f"{path}/few")).get("status", {})

    await eventually(in_force)
    with pytest.raises(BlockedError, match="exceeded quota: few") as caught:
        await KubeApplier(client).execute(Apply(objects.deployment(model), new=True))
    assert caught.value.reason == "QuotaExceeded"


async def test_a_missing_right_is_named_and_blocks(stranger: Client, namespace: str, model: Json) -> None:
    for attempt, right in (
        (
            KubeReader(stranger, await discover(stranger)).observe(Key(namespace, objects.MODEL)),
            "cannot (get|list) resource",
        ),
        (
            KubeApplier(stranger).execute(Apply(objects.service(model), new=False)),
            'cannot patch resource "services"',
        ),
    ):
        with pytest.raises(BlockedError, match=right) as caught:
            await attempt
        assert caught.value.reason == "Forbidden"


async def test_a_kind_that_is_not_served_any_more_is_told(
    client: Client, namespace: str, model: Json
) -> None:
    served = await discover(client)
    reader = KubeReader(client, replace(served, budget_api="policy/v0"))
    with pytest.raises(TransientError, match=r"/apis/policy/v0/poddisruptionbudgets; .* started anew"):
        await reader.observe(Key(namespace, objects.MODEL))
    assert reader.outdated is not None
    fresh = KubeReader(client, served)
    assert await fresh.observe(Key(namespace, objects.MODEL)) is not None
    assert fresh.outdated is None


async def test_an_event_that_may_not_be_written_does_no_harm(
    stranger: Client, client: Client, namespace: str, model: Json
) -> None:
    await KubeRecorder(stranger).emit(model, objects.NOTICE)
    assert await client.list_all(paths.collection("Event", namespace)) == []


async def test_an_object_that_breaks_a_rule_blocks_and_the_field_is_named(
    client: Client, model: Json
) -> None:
    wrong = objects.service(model)
    wrong["spec"]["ports"][0]["port"] = 70000
    with pytest.raises(BlockedError, match=r"spec.ports\[0\].port") as caught:
        await KubeApplier(client).execute(Apply(wrong, new=True))
    assert caught.value.reason == "InvalidSpec"


async def test_an_object_of_wrong_types_blocks(client: Client, model: Json) -> None:
    wrong = objects.service(model)
    wrong["spec"]["ports"][0]["port"] = "eighty"
    with pytest.raises(PilothouseError, match="port"):
        await KubeApplier(client).execute(Apply(wrong, new=True))


async def test_an_outdated_write_is_a_conflict(client: Client, model: Json) -> None:
    path = paths.item(names.KIND, model["metadata"]["namespace"], objects.MODEL)
    await client.request("PUT", path, body=model | {"spec": model["spec"] | {"replicas": 2}})
    with pytest.raises(ConflictError):
        await client.request("PUT", path, body=model | {"spec": model["spec"] | {"replicas": 3}})


async def test_a_namespace_that_is_going_is_gone(client: Client, namespace: str, model: Json) -> None:
    # Something that is not let go keeps the namespace in its terminating state.
    held = objects.service(model, "held")
    held["metadata"] |= {"finalizers": ["pilothouse.test/hold"]}
    del held["metadata"]["ownerReferences"]
    await control_plane.create(client, held)
    await client.request("DELETE", f"/api/v1/namespaces/{namespace}")

    async def refused() -> bool:
        try:
            await KubeApplier(client).execute(Apply(objects.service(model, "more"), new=True))
        except GoneError:
            return True
        return False

    try:
        await eventually(refused)
    finally:
        body = await control_plane.get(client, "Service", namespace, "held")
        assert body is not None
        body["metadata"].pop("finalizers")
        await control_plane.replace(client, body)


async def test_a_server_that_is_away_is_transient(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody_there = listener.getsockname()[1]
    path = tmp_path / "kubeconfig"
    path.write_text(Kubectl(cluster.kubeconfig)("config", "view", "--raw", "--minify", "--flatten"))
    current = Kubectl(path)("config", "view", "--output=jsonpath={.clusters[0].name}")
    Kubectl(path)("config", "set-cluster", current, f"--server=https://127.0.0.1:{nobody_there}")
    monkeypatch.setenv("KUBECONFIG", str(path))
    async with await Client.connect() as client:
        with pytest.raises(TransientError, match="no answer from the API server"):
            await client.get("/version")


async def test_without_a_cluster_the_way_to_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing-here"))
    with pytest.raises(NoClusterError, match="set KUBECONFIG"):
        await Client.connect()
