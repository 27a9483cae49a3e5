"""A real node, the images of this checkout, Pilothouse installed by Helm, and real models to serve."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import cluster as clusters
from dev import images
from dev.demo import manifests
from dev.shell import ROOT
from tests.support.badserver import BadServer
from tests.support.kubectl import Kubectl
from tests.support.system import System


@dataclass(frozen=True)
class Models:
    """Two trained models, their held-out digits and what they scored offline."""

    folder: Path
    accuracy: dict[str, float]
    digest: dict[str, str]

    files = {"1": "digits-mlp.pt", "2": "digits-cnn.pt2"}


@pytest.fixture(scope="session")
def cluster() -> clusters.Cluster:
    """A cluster with a node."""
    return clusters.up("tests")


@pytest.fixture(scope="session")
def system(cluster: clusters.Cluster) -> System:
    """Pilothouse, installed by Helm from this checkout's chart and images."""
    system = System(cluster, images.ensure(cluster))
    system.install()
    return system


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Train the example models."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-m", "examples.digits.train", "--out", str(folder)], check=True, cwd=ROOT)
    report = json.loads((folder / "report.json").read_text())["models"]
    return Models(
        folder,
        accuracy={version: report[version]["accuracy"] for version in Models.files},
        digest={version: report[version]["digest"] for version in Models.files},
    )


@pytest.fixture(scope="session")
def store(cluster: clusters.Cluster, models: Models) -> Iterator[BadServer]:
    """An HTTP server on this machine with the models, and with the ways in which a server can misbehave."""
    with BadServer(models.folder, host=cluster.host_address) as server:
        yield server


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
    files = {path.name: path.read_bytes() for path in (manifests.CLIENT_SCRIPT, models.folder / "digits-test.npz")}
    kubectl.apply(manifests.config_map(manifests.CLIENT, files))


