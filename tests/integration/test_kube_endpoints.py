"""What Kubernetes' own endpoints controller writes is understood: EndpointSlices of a real controller manager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.cluster import Cluster
from pilothouse.api import names
from pilothouse.kube import paths
from pilothouse.kube.applier import KubeApplier
from pilothouse.kube.client import Client
from pilothouse.kube.discovery import discover
from pilothouse.kube.reader import KubeReader
from pilothouse.plan import endpoints, routing
from pilothouse.plan.actions import Apply
from pilothouse.plan.seen import Json, Key, Seen
from tests.contract.ports import objects
from tests.support import control_plane
from tests.support.kubectl import Kubectl
from tests.support.waiting import eventually

OLD, NEW = objects.REVISION, f"{objects.MODEL}-9876543210"


class Model:
    """A model in a cluster without nodes: the test says which of its pods are ready, as the kubelet would."""

    def __init__(self, client: Client, reader: KubeReader, admin: Kubectl, body: Json) -> None:
        self.client = client
        self.reader = reader
        self.admin = admin
        self.body = body

    async def look(self) -> Seen:
        seen = await self.reader.observe(Key(self.admin.namespace, objects.MODEL))
        assert seen is not None
        return seen

    async def point(self, *to: str) -> None:
        """Let the model's Service send requests by a route."""
        service = objects.service(self.body)
        service["spec"]["selector"] = routing.selector(objects.MODEL, to)
        await KubeApplier(self.client).execute(Apply(service, new=False))

    async def pod(self, revision: str, address: str) -> str:
        """Create a ready pod of a revision and return its uid."""
        manifest = objects.pod(self.admin.namespace)
        labels = {**names.child_labels(objects.MODEL, revision), names.LABEL_SERVING: names.SERVING}
        manifest["metadata"] |= {"name": revision, "labels": labels}
        # Of a pod without a node Kubernetes 1.20 makes no endpoint.
        manifest["spec"]["nodeName"] = self.admin.namespace
        created = await control_plane.create(self.client, manifest)
        await self.say(revision, ready=True, address=address)
        return str(created["metadata"]["uid"])

    async def say(self, pod: str, *, ready: bool, address: str) -> None:
        """Write the status of a pod."""
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}
        path = f"{paths.item('Pod', self.admin.namespace, pod)}/status"
        await self.client.request(
            "PATCH", path, body={"status": status}, content_type="application/merge-patch+json"
        )

    async def names(self, *pods: str) -> None:
        """Wait until nodes are told of exactly these pods, by their uids."""

        async def told() -> bool:
            return endpoints.named(await self.look(), objects.MODEL) == frozenset(pods)

        await eventually(told)


@pytest.fixture
def admin(cluster: Cluster, namespace: str) -> Iterator[Kubectl]:
    """kubectl, in a cluster with a node of the test's own on which nothing runs."""
    admin = Kubectl(cluster.kubeconfig, namespace)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace}}
    admin.apply(node | {"spec": {"unschedulable": True}})
    yield admin
    admin("delete", "node", namespace)


@pytest.fixture
async def model(client: Client, namespace: str, admin: Kubectl) -> Model:
    body = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"namespace": namespace, "name": objects.MODEL},
        "spec": objects.SPEC,
    }
    created = await control_plane.create(client, body)
    reader = KubeReader(client, await discover(client))
    return Model(client, reader, admin, created)


async def test_slices_follow_readiness_and_the_selector(model: Model) -> None:
    old = await model.pod(OLD, "10.250.0.1")
    await model.point(OLD)
    await model.names(old)
    assert endpoints.follow(await model.look(), (OLD,))
    new = await model.pod(NEW, "10.250.0.2")
    await model.point(OLD, NEW)
    await model.names(old, new)
    assert endpoints.follow(await model.look(), (OLD, NEW))
    await model.point(NEW)
    await model.names(new)
    seen = await model.look()
    assert endpoints.follow(seen, (NEW,))
    assert (endpoints.holds(seen, OLD), endpoints.holds(seen, NEW)) == (False, True)
    await model.say(NEW, ready=False, address="10.250.0.2")
    await model.names()
