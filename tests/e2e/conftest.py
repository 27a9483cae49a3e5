"""A real node, the images of this checkout, Pilothouse installed by Helm, and real models to serve."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator

import pytest

from dev import cluster as clusters
from dev import images
from dev.demo import manifests
from dev.images.recipe import RUNTIME_TENSORFLOW
from tests.support.badserver import BadServer
from tests.support.cluster import node_cluster
from tests.support.kubectl import Kubectl
from tests.support.models import Models, Store, train
from tests.support.system import System


@pytest.fixture(scope="session")
def cluster() -> Iterator[clusters.Cluster]:
    """A cluster with a node."""
    with node_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def system(cluster: clusters.Cluster) -> System:
    """Pilothouse, installed by Helm from this checkout's chart and images."""
    # The image with TensorFlow is built by the one module that runs it; what it will be called is known before.
    tensorflow = {RUNTIME_TENSORFLOW.name: images.reference(cluster, RUNTIME_TENSORFLOW.name)}
    system = System(cluster, images.ensure(cluster) | tensorflow)
    system.install()
    return system


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The example models, trained."""
    return train(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def store(cluster: clusters.Cluster, models: Models) -> Iterator[Store]:
    """An HTTP server on this machine with the models, and with the ways in which a server can misbehave."""
    files = {path.name: path.read_bytes() for path in models.folder.iterdir()}
    cnn = files[Models.files["2"]]
    files |= {"truncated.pt2": cnn[: len(cnn) // 2], "pickle.pt": pickle.dumps({"weights": [1.0]})}
    with BadServer(files, host=cluster.host_address) as server:
        yield Store(server.url)


@pytest.fixture(scope="module")
def kubectl(system: System) -> Iterator[Kubectl]:
    """kubectl in a namespace of the module's own, in which Pilothouse is at work."""
    kubectl = Kubectl(system.cluster.kubeconfig, f"e2e-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(scope="module")
def digits_data(kubectl: Kubectl, models: Models) -> None:
    """The ConfigMap with which client pods send held-out digits."""
    files = {
        path.name: path.read_bytes() for path in (manifests.CLIENT_SCRIPT, models.folder / "digits-test.npz")
    }
    kubectl.apply(manifests.config_map(manifests.CLIENT, files), server_side=True)
