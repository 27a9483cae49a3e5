"""What integration tests share: a real API server, a client of it, and a namespace of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from dev.cluster import Cluster
from pilothouse.kube.client import Client
from tests.support import cluster as clusters
from tests.support.control_plane import install_crd


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with our CustomResourceDefinition, in which no operator is at work."""
    with clusters.control_plane("tests-api") as cluster:
        install_crd(cluster)
        yield cluster


@pytest.fixture
async def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """An administrator's client; KUBECONFIG names the cluster meanwhile."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    async with await Client.connect() as client:
        yield client


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that no other test uses."""
    with clusters.namespace(cluster) as name:
        yield name
