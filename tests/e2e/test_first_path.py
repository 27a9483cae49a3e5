"""The main job: a model is applied, served, measured, replaced under load, and deleted."""

from __future__ import annotations

import base64

import pytest

from pilothouse.plan.seen import Json
from tests.support.deployments import model_deployment
from tests.support.kubectl import Kubectl
from tests.support.load import load, measure
from tests.support.models import Models, Store
from tests.support.recording import Recording
from tests.support.system import System
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("digits_data")


def digits(models: Models, store: Store, version: str) -> Json:
    """Return the ModelDeployment of one version of the example, with its digest."""
    uri = store.version(version)
    return model_deployment(
        "digits", uri, version=version, replicas=2, model={"digest": models.digest[version]}
    )


def test_a_model_is_served_and_replaced_without_a_failed_request(
    system: System, kubectl: Kubectl, models: Models, store: Store
) -> None:
    image = system.references["runtime"]
    kubectl.apply(digits(models, store, "1"))
    with Recording(kubectl, "digits") as recording:
        # The wait begins before the operator has seen the object, and must not be told that it is ready.
        kubectl("wait", "mdep/digits", "--for=condition=Ready", "--timeout=120s")
        first = kubectl.status("digits")
        assert first["readyReplicas"] == 2
        tally = measure(kubectl, image, "digits")
        assert tally["failed"] == 0
        assert tally["versions"]["1"]["accuracy"] == pytest.approx(models.accuracy["1"], abs=1e-4)

        with load(kubectl, image, "digits") as running:
            kubectl.apply(digits(models, store, "2"))
            kubectl("wait", "mdep/digits", "--for=condition=Ready", "--timeout=120s")
            second = kubectl.status("digits")
            assert second["stableRevision"] == second["targetRevision"] != first["stableRevision"]
            old = f"pilothouse.dev/revision={first['stableRevision']}"
            until(lambda: not kubectl.list("pods", old), seconds=90, what=lambda: kubectl("get", "pods"))
            running.more()
            tally = running.tally()
        assert tally["failed"] == 0, tally["failures"]
        assert tally["versions"]["1"]["rows"] > 0
        assert tally["versions"]["2"]["rows"] > 0

        tally = measure(kubectl, image, "digits")
        assert tally["versions"]["2"]["accuracy"] == pytest.approx(models.accuracy["2"], abs=1e-4)
        assert tally["versions"]["2"]["accuracy"] > models.accuracy["1"]
    recording.check_told_the_truth()

    body = kubectl.get("mdep", "digits")
    assert body is not None
    assert "finalizers" not in body["metadata"]
    annotations = body["metadata"].get("annotations", {})
    assert set(annotations) <= {"kubectl.kubernetes.io/last-applied-configuration"}
    events = {
        event["reason"]
        for event in kubectl.list("events")
        if event["involvedObject"].get("kind") == "ModelDeployment"
    }
    assert {"RolloutStarted", "RevisionPromoted", "RevisionRetired"} <= events

    kubectl("delete", "mdep", "digits", "--timeout=30s")
    children = "pilothouse.dev/model=digits"
    kinds = "deployments,services,controllerrevisions,replicasets,pods"
    until(lambda: not kubectl.list(kinds, children), seconds=90, what=lambda: kubectl("get", kinds))


def test_worker_processes_are_replaced_without_a_failed_request(
    system: System, kubectl: Kubectl, models: Models, store: Store
) -> None:
    image, name = system.references["runtime"], "workers"
    runtime = {"workers": 2}
    kubectl.apply(model_deployment(name, store.version("1"), version="1", runtime=runtime))
    kubectl.wait_ready(name)
    assert measure(kubectl, image, name)["versions"]["1"]["accuracy"] == pytest.approx(
        models.accuracy["1"], abs=1e-4
    )
    with load(kubectl, image, name, renew=10) as running:
        kubectl.apply(model_deployment(name, store.version("2"), version="2", runtime=runtime))
        kubectl.wait_ready(name)
        until(lambda: len(kubectl.list("pods", f"pilothouse.dev/model={name}")) == 1, seconds=90)
        running.more()
        tally = running.tally()
    assert tally["failed"] == 0, tally["failures"]
    assert tally["versions"]["2"]["rows"] > 0
    kubectl("delete", "mdep", name)


def test_a_model_from_a_claim(system: System, kubectl: Kubectl, models: Models) -> None:
    """A PersistentVolumeClaim, filled by a pod and mounted read-only by the runtime."""
    folder = f"/tmp/pilothouse-{kubectl.namespace}"  # noqa: S108 - on the node, and named after the test
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": kubectl.namespace},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "claimRef": {"namespace": kubectl.namespace, "name": "models"},
                "hostPath": {"path": folder, "type": "DirectoryOrCreate"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeName": kubectl.namespace,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        _filler(system.references["runtime"], models),
    )
    try:
        kubectl.apply(model_deployment("from-claim", "pvc://models/digits/1.pt"))
        kubectl.wait_ready("from-claim")
    finally:
        kubectl("delete", "mdep", "from-claim")
        kubectl("delete", "pv", kubectl.namespace, "--wait=false")


def _filler(image: str, models: Models) -> Json:
    """Return a pod that copies the first model from the network of this test's store onto the claim."""
    content = base64.b64encode((models.folder / models.files["1"]).read_bytes()).decode()
    script = (
        "import base64, os; os.makedirs('/claim/digits', exist_ok=True); "
        "open('/claim/digits/1.pt', 'wb').write(base64.b64decode(os.environ['CONTENT']))"
    )
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "filler"},
        "spec": {
            "restartPolicy": "OnFailure",
            "securityContext": {"runAsUser": 0},
            "containers": [
                {
                    "name": "filler",
                    "image": image,
                    "command": ["python3", "-c", script],
                    "env": [{"name": "CONTENT", "value": content}],
                    "volumeMounts": [{"name": "claim", "mountPath": "/claim"}],
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "models"}}],
        },
    }
