"""The adapters keep the ports' contract against a real API server, with the rights that the chart grants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dev import helm
from dev.cluster import Cluster
from dev.shell import ROOT
from pilothouse.control.errors import GoneError
from pilothouse.kube import paths
from pilothouse.kube.applier import KubeApplier
from pilothouse.kube.client import Client
from pilothouse.kube.discovery import Served, discover
from pilothouse.kube.events import KubeRecorder
from pilothouse.kube.reader import KubeReader
from pilothouse.kube.status import KubeStatusWriter
from pilothouse.plan.actions import Notice
from pilothouse.plan.seen import Json
from tests.contract.ports import objects, suite
from tests.support import cluster as clusters
from tests.support import control_plane
from tests.support.kubectl import Kubectl


class ServerHands:
    """A user of a real API server, who may do everything, and adapters whose client may do less."""

    def __init__(self, client: Client, operator: Client, namespace: str, served: Served) -> None:
        self.client = client
        self.namespace = namespace
        self.budget_api = served.budget_api
        self.autoscaler_api = served.autoscaler_api
        self.slice_api = served.slice_api
        self.reader = KubeReader(operator, served)
        self.applier = KubeApplier(operator)
        self.status_writer = KubeStatusWriter(operator)
        self.recorder = KubeRecorder(operator)

    async def create(self, manifest: Json) -> Json:
        return await control_plane.create(self.client, manifest)

    async def replace(self, body: Json) -> Json:
        return await control_plane.replace(self.client, body)

    async def get(self, kind: str, name: str) -> Json | None:
        versions = {"PodDisruptionBudget": self.budget_api, "HorizontalPodAutoscaler": self.autoscaler_api}
        try:
            return await self.client.get(paths.item(kind, self.namespace, name, versions.get(kind)))
        except GoneError:
            return None

    async def delete(self, kind: str, name: str) -> None:
        await control_plane.delete(self.client, kind, self.namespace, name)

    async def notices(self) -> list[Notice]:
        events = await self.client.list_all(paths.collection("Event", self.namespace))
        ours = [event for event in events if event["source"].get("component") == "pilothouse"]
        return [Notice(event["type"], event["reason"], event["message"]) for event in ours]


@pytest.fixture(scope="module")
def rights(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig with the rights that the chart gives the operator."""
    with clusters.namespace(cluster, "system") as system:
        admin = Kubectl(cluster.kubeconfig, system)
        chart = helm.template(ROOT / "charts/pilothouse", release=f"pilothouse-{system}", namespace=system)
        granted = [o for o in chart if "Role" in o["kind"] or o["kind"] == "ServiceAccount"]
        admin.apply(*granted)
        (account,) = (o["metadata"]["name"] for o in granted if o["kind"] == "ServiceAccount")
        path = tmp_path_factory.mktemp("rights") / "kubeconfig"
        path.write_text(admin("config", "view", "--raw", "--minify", "--flatten"))
        operator = Kubectl(path, system)
        token = admin("create", "token", account).strip()
        operator("config", "set-credentials", "operator", f"--token={token}")
        operator("config", "set-context", "--current", "--user=operator")
        yield path
        for granting in granted:
            if granting["kind"].startswith("ClusterRole"):
                admin("delete", granting["kind"], granting["metadata"]["name"])


@pytest.fixture
async def operator(client: Client, rights: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client with the operator's rights and no others."""
    monkeypatch.setenv("KUBECONFIG", str(rights))
    async with await Client.connect() as operator:
        yield operator


@pytest.fixture
async def hands(client: Client, operator: Client, namespace: str) -> ServerHands:
    return ServerHands(client, operator, namespace, await discover(operator))


class TestApiServer(suite.PortsContract):
    """The contract."""


async def test_an_event_names_exactly_the_object_it_is_about(hands: ServerHands) -> None:
    body = await suite.model(hands)
    await hands.recorder.emit(body, objects.NOTICE)
    (event,) = await hands.client.list_all(paths.collection("Event", hands.namespace))
    involved = event["involvedObject"]
    assert (involved["kind"], involved["name"], involved["uid"]) == (
        "ModelDeployment",
        objects.MODEL,
        body["metadata"]["uid"],
    )
    assert event["reportingComponent"] == "pilothouse"


async def test_all_models_are_listed_of_the_cluster_or_of_some_namespaces(hands: ServerHands) -> None:
    await suite.model(hands)
    await suite.model(hands, "letters")
    expected = [(hands.namespace, "digits"), (hands.namespace, "letters")]
    assert await hands.reader.keys([hands.namespace]) == expected
    assert [key for key in await hands.reader.keys([]) if key.namespace == hands.namespace] == expected
