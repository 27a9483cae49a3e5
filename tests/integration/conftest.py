"""What integration tests share: a real API server, a client of it, and a namespace of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dev.cluster.cluster import Cluster
from pilothouse.kube.client import Client
from tests.support import control_plane


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A cluster with our CustomResourceDefinition."""
    return control_plane.start()


@pytest.fixture
async def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """An administrator's client; KUBECONFIG names the cluster meanwhile."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    async with await Client.connect() as client:
        yield client


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    """A namespace that no other test uses."""
    async with control_plane.namespace(client) as name:
        yield name
