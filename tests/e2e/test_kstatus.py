"""Helm 4 and kubectl, which wait by kstatus and by conditions, are told the truth from the first second."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dev import helm
from tests.support.deployments import model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.models import Models, Store
from tests.support.system import System


def chart(folder: Path, body: Json) -> Path:
    """Write a user's own chart, which holds one ModelDeployment."""
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": "vision", "version": "1.0.0"}))
    (folder / "templates/model.yaml").write_text(json.dumps(body))
    return folder


def test_helm_waits_until_the_model_serves(
    system: System, kubectl: Kubectl, models: Models, store: Store, tmp_path: Path
) -> None:
    body = model_deployment("by-helm", store.version("1"))
    where = {"namespace": kubectl.namespace, "kubeconfig": system.cluster.kubeconfig}
    helm.install("vision", chart(tmp_path, body), timeout=120, **where)
    assert kubectl.ready("by-helm")
    # The next version by the same chart: an upgrade must not be told of the old version's readiness.
    body = model_deployment("by-helm", store.version("2"), version="2")
    helm.install("vision", chart(tmp_path, body), timeout=120, **where)
    assert kubectl.status("by-helm")["stableVersion"] == "2"
    helm.uninstall("vision", **where)
    assert kubectl.get("mdep", "by-helm") is None


def test_helm_fails_as_soon_as_the_model_has(
    system: System, kubectl: Kubectl, store: Store, tmp_path: Path
) -> None:
    body = model_deployment("hopeless", store.url("digits.pt", "404"), rollout={"progressDeadline": "10m"})
    where = {"namespace": kubectl.namespace, "kubeconfig": system.cluster.kubeconfig}
    began = time.monotonic()
    with pytest.raises(helm.HelmError):
        helm.install("hopeless", chart(tmp_path, body), timeout=300, **where)
    assert kubectl.reason_stalled("hopeless") == "ModelDownloadFailed"
    # Not a measurement: a Helm that was not told would have waited for all of its 300 seconds.
    assert time.monotonic() - began < 290
    helm.uninstall("hopeless", **where)


def test_kubectl_wait_is_not_told_of_the_generation_before(
    kubectl: Kubectl, models: Models, store: Store
) -> None:
    kubectl.apply(model_deployment("waited", store.version("1")))
    kubectl("wait", "mdep/waited", "--for=condition=Ready", "--timeout=120s")
    for version in ("2", "1"):
        kubectl.apply(model_deployment("waited", store.version(version), version=version))
        kubectl("wait", "mdep/waited", "--for=condition=Ready", "--timeout=120s")
        status = kubectl.status("waited")
        assert status["stableVersion"] == version
        assert status["stableRevision"] == status["targetRevision"]
    kubectl("delete", "mdep", "waited")
