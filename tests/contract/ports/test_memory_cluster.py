"""The cluster in memory keeps the contract that the real API server's adapters keep."""

from __future__ import annotations

import copy

import pytest

from pilothouse.api import names
from pilothouse.control.errors import TransientError
from pilothouse.plan.actions import Apply, Notice
from pilothouse.plan.seen import Json, Key
from tests.contract.ports import objects, suite
from tests.support.memory_cluster import Fault, MemoryCluster, Ref


class MemoryHands:
    """A user of a `MemoryCluster`."""

    namespace = "vision"
    budget_api = "policy/v1"
    autoscaler_api = "autoscaling/v2"
    slice_api = "discovery.k8s.io/v1"

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.reader = self.applier = self.status_writer = self.recorder = self.cluster

    async def create(self, manifest: Json) -> Json:
        return self.cluster.create(manifest)

    async def replace(self, body: Json) -> Json:
        def change(live: Json) -> None:
            live.clear()
            live.update(copy.deepcopy(body))

        return self.cluster.edit(self._ref(body["kind"], body["metadata"]["name"]), change)

    async def get(self, kind: str, name: str) -> Json | None:
        return self.cluster.get(self._ref(kind, name))

    async def delete(self, kind: str, name: str) -> None:
        self.cluster.delete(self._ref(kind, name))

    async def notices(self) -> list[Notice]:
        return [notice for key, notice in self.cluster.notices if key.namespace == self.namespace]

    def _ref(self, kind: str, name: str) -> Ref:
        return Ref(kind, self.namespace, name)


@pytest.fixture
def hands() -> MemoryHands:
    return MemoryHands()


class TestMemoryCluster(suite.PortsContract):
    """The contract."""


async def test_a_lost_request_does_nothing_and_a_lost_answer_hides_what_was_done(hands: MemoryHands) -> None:
    body = await suite.model(hands)
    hands.cluster.faults = {1: Fault(TransientError("gone")), 2: Fault(TransientError("mute"), lost="answer")}
    for expected in (0, 1):
        with pytest.raises(TransientError):
            await hands.applier.execute(Apply(objects.service(body), new=True))
        assert hands.cluster.changes["apply"] == expected


async def test_children_go_with_their_owner(hands: MemoryHands) -> None:
    body = await suite.model(hands)
    await hands.applier.execute(Apply(objects.service(body), new=True))
    hands.cluster.delete(Ref(names.KIND, "vision", objects.MODEL), foreground=True)
    seen = await hands.reader.observe(Key("vision", objects.MODEL))
    assert seen is not None
    assert "deletionTimestamp" in seen.body["metadata"]
    hands.cluster.collect_garbage()
    assert hands.cluster.objects == {}
