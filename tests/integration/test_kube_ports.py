"""The adapters keep the ports' contract against a real API server."""

from __future__ import annotations

import pytest

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
from tests.support import control_plane


class ServerHands:
    """A user of a real API server."""

    def __init__(self, client: Client, namespace: str, served: Served) -> None:
        self.client = client
        self.namespace = namespace
        self.budget_api = served.budget_api
        self.autoscaler_api = served.autoscaler_api
        self.reader = KubeReader(client, served)
        self.applier = KubeApplier(client)
        self.status_writer = KubeStatusWriter(client)
        self.recorder = KubeRecorder(client)

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


@pytest.fixture
async def hands(client: Client, namespace: str) -> ServerHands:
    return ServerHands(client, namespace, await discover(client))


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
