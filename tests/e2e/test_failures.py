"""Whatever is wrong with the next model or its pods: the old revision keeps the traffic, and the status says why.

All cases are rolled out at once, since most of what they do is wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.deployments import model_deployment
from tests.support.kubectl import Json, Kubectl
from tests.support.load import measure
from tests.support.models import Models, Store
from tests.support.system import System
from tests.support.waiting import until


@dataclass(frozen=True)
class Case:
    """What is wrong with version 2, and what must be told of it."""

    reason: str
    told: str
    path: str = "digits-cnn.pt2"
    behaviour: str = "good"
    model: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


_WRONG = "sha256:" + "0" * 64
CASES = {
    "digest": Case("DigestMismatch", "0000000000", model={"digest": _WRONG}),
    "truncated": Case("ModelLoadFailed", "truncated", path="truncated.pt2"),
    "pickle": Case("ModelLoadFailed", "pickle", path="pickle.pt"),
    "html": Case("ModelLoadFailed", "HTML", behaviour="html"),
    "missing": Case("ModelDownloadFailed", "404", behaviour="404"),
    "silent": Case(
        "ModelDownloadFailed", "stall", path="stall", spec={"rollout": {"progressDeadline": "45s"}}
    ),
    "image": Case(
        "ImagePullFailed", "spec.runtime.image", spec={"runtime": {"image": "localhost:1/nobody/has:this"}}
    ),
    "unschedulable": Case(
        "Unschedulable", "node", spec={"runtime": {"nodeSelector": {"example.com/accelerator": "none"}}}
    ),
    "memory": Case(
        "OutOfMemory", "limits.memory", spec={"runtime": {"resources": {"limits": {"memory": "48Mi"}}}}
    ),
    "crash": Case("CrashLooping", "exited with code"),
}


@pytest.fixture(scope="module")
def failing(system: System, kubectl: Kubectl, models: Models, store: Store) -> Iterator[dict[str, Json]]:
    """For each case a model whose version 1 serves and whose version 2 is being tried; version 1's statuses."""
    for name in CASES:
        kubectl.apply(model_deployment(name, store.version("1")))
    before = {name: kubectl.wait_ready(name, seconds=300) for name in CASES}
    for name, case in CASES.items():
        spec = dict(case.spec)
        rollout = {"progressDeadline": "60s", **spec.pop("rollout", {})}
        if name == "crash":
            # An image that starts, and is no runtime: the operator's own, without the rights it needs.
            spec["runtime"] = {"image": system.references["operator"]}
        uri = store.url(case.path, case.behaviour)
        kubectl.apply(model_deployment(name, uri, version="2", model=case.model, rollout=rollout, **spec))
    yield before
    kubectl("delete", "mdep", "--all")


# The others have begun by then, and most of what they do is wait.
@pytest.mark.usefixtures("failing")
def test_quota_is_named(kubectl: Kubectl, store: Store, models: Models) -> None:
    within = kubectl.within(f"{kubectl.namespace}-quota")
    kubectl("create", "namespace", within.namespace)
    try:
        within.apply(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "small"},
                "spec": {"hard": {"pods": "1"}},
            }
        )
        within.apply(
            model_deployment("digits", store.version("1"), replicas=2, rollout={"progressDeadline": "5s"})
        )
        stalled = within.wait_stalled("digits")
        assert stalled["reason"] == "QuotaExceeded"
        assert "small" in stalled["message"]
        # The one pod that the quota lets in.
        until(lambda: within.status("digits")["readyReplicas"] == 1, seconds=180)
        # What was in the way goes away, and nobody has to say so.
        within("delete", "resourcequota", "small")
        within.wait_ready("digits", seconds=180)
    finally:
        kubectl("delete", "namespace", within.namespace, "--wait=false")


@pytest.mark.usefixtures("digits_data")
@pytest.mark.parametrize("name", CASES)
def test_old_revision_keeps_the_traffic_and_the_cause_is_told(
    name: str, failing: dict[str, Json], system: System, kubectl: Kubectl, models: Models
) -> None:
    case = CASES[name]
    stalled = kubectl.wait_stalled(name, seconds=180)
    assert stalled["reason"] == case.reason, stalled
    assert case.told in stalled["message"]
    conditions = kubectl.conditions(name)
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Available"]["status"] == "True"
    status = kubectl.status(name)
    assert status["stableRevision"] == failing[name]["stableRevision"]
    assert status["history"][0]["outcome"] == "Failed"
    tally = measure(kubectl, system.references["runtime"], name)
    assert tally["failed"] == 0
    assert tally["versions"]["1"]["accuracy"] == pytest.approx(models.accuracy["1"], abs=1e-4)
    line = kubectl("get", "mdep", name)
    assert case.reason in line, "what kubectl get shows must name the cause"
