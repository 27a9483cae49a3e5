"""The chart, installed by real Helm 4 into a real API server; no pods run here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dev import helm
from dev.cluster import Cluster
from dev.shell import ROOT
from pilothouse.api import crd
from tests.support import cluster as clusters
from tests.support.kubectl import Kubectl, RefusedError

CHART = ROOT / "charts/pilothouse"
# Of its own: the shared one has the CRD already, which Helm does not take over.
NAME = "tests-chart"


@pytest.fixture(scope="module")
def empty_cluster() -> Iterator[Cluster]:
    """A cluster in which nothing is installed (if it is an embedded one)."""
    with clusters.control_plane(NAME) as cluster:
        yield cluster


def test_install_upgrade_uninstall(empty_cluster: Cluster) -> None:
    kubeconfig = empty_cluster.kubeconfig
    with clusters.namespace(empty_cluster, "system") as system:
        kubectl = Kubectl(kubeconfig, system)
        release = f"pilothouse-{system.removeprefix('system-')}"

        crds = {"install": kubectl.get("crd", crd.CRD_NAME) is None}
        values: dict[str, Any] = {"replicas": 0, "crds": crds}
        first = helm.install(release, CHART, namespace=system, kubeconfig=kubeconfig, values=values)
        assert (first["status"], first["revision"]) == ("deployed", 1)
        stored = kubectl.get("crd", crd.CRD_NAME)
        minor = int(json.loads(kubectl("get", "--raw", "/version"))["minor"].rstrip("+"))
        wanted = crd.crd() if minor >= 25 else crd.legacy_crd()
        assert stored is not None
        assert stored["spec"]["versions"][0]["schema"] == wanted["spec"]["versions"][0]["schema"]
        assert kubectl.get("clusterrolebinding", release) is not None

        values["watchNamespaces"] = [system]
        second = helm.install(release, CHART, namespace=system, kubeconfig=kubeconfig, values=values)
        assert (second["status"], second["revision"]) == ("deployed", 2)
        assert kubectl.get("clusterrolebinding", release) is None
        who = f"--as=system:serviceaccount:{system}:{release}"
        assert kubectl("auth", "can-i", "create", "deployments.apps", who).strip() == "yes"
        assert kubectl("auth", "can-i", "patch", "mdep", "--subresource=status", who).strip() == "yes"
        with pytest.raises(RefusedError):
            kubectl.within("default")("auth", "can-i", "list", "pods", who)

        helm.uninstall(release, namespace=system, kubeconfig=kubeconfig)
        assert kubectl.get("deployment", release) is None
        assert kubectl.get("crd", crd.CRD_NAME) is not None, "uninstalling must not delete the models"
        if crds["install"]:
            kubectl("delete", "crd", crd.CRD_NAME)
