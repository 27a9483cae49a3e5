"""The examples on a real node: their own YAML, from the claim that it names, and the answers that they gave offline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev import images
from dev.images.recipe import RUNTIME_TENSORFLOW
from pilothouse.plan.seen import Json
from pilothouse_runtime import contract
from pilothouse_runtime.contract import ValidationReport
from tests.support.badserver import BadServer
from tests.support.examples import TOLERANCE, Deployed, Trained, Trainings, deployed
from tests.support.kubectl import Kubectl
from tests.support.load import service_url
from tests.support.system import System

EXAMPLES = deployed()
FILLER = "filler"
CLAIMED = "/claim"
_FILL = f"""
import pathlib, sys, time, urllib.request
address, *names = sys.argv[1:]
for name in names:
    path = pathlib.Path("{CLAIMED}", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    urllib.request.urlretrieve(f"{{address}}/{{name}}", path)
pathlib.Path("/tmp/filled").touch()
time.sleep(3600)
"""


@dataclass(frozen=True)
class Claim:
    """The claim `models` with all examples on it, and a pod that has it mounted."""

    kubectl: Kubectl
    trainings: Trainings

    def trained(self, one: Deployed) -> Trained:
        return self.trainings[one.example]

    def measure(self, one: Deployed, data: str, metric: str) -> ValidationReport:
        """Return what the validation program finds when it asks a model's Service, from within the cluster."""
        told = {
            contract.ENV_MODEL_NAME: one.name,
            contract.ENV_VALIDATION_URI: f"file://{CLAIMED}/{data}",
            contract.ENV_VALIDATION_URL: service_url(self.kubectl, one.name),
            contract.ENV_VALIDATION_METRIC: metric,
        }
        environment = [f"{name}={value}" for name, value in told.items()]
        report = f"/tmp/{data.replace('/', '-')}.json"  # noqa: S108 - in the pod
        places = ["--termination-log", report, "--cache-dir", "/tmp/cache"]  # noqa: S108 - in the pod
        inside = ("exec", FILLER, "--")
        self.kubectl(*inside, "env", *environment, *contract.VALIDATION_COMMAND, *places)
        found = ValidationReport.decode(self.kubectl(*inside, "cat", report))
        assert found is not None
        return found


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    trainings = Trainings(tmp_path_factory.mktemp("examples"), [one.example for one in EXAMPLES])
    yield trainings
    trainings.close()


@pytest.fixture(scope="module")
def tensorflow(trainings: Trainings, system: System) -> None:
    """The image with TensorFlow in the node, which no other module needs, while examples are trained."""
    (name,) = images.ensure(system.cluster, only=RUNTIME_TENSORFLOW.name).values()
    assert name == system.references[RUNTIME_TENSORFLOW.name]


@pytest.fixture(scope="module")
def claim(trainings: Trainings, system: System, tensorflow: None, kubectl: Kubectl) -> Iterator[Claim]:
    """All examples, trained, on the claim that their YAML names, and applied as it is."""
    sources = {name: path for one in EXAMPLES for name, path in _needed(one, trainings[one.example])}
    files = {name: path.read_bytes() for name, path in sources.items()}
    with BadServer(files, host=system.cluster.host_address) as server:
        kubectl.apply(*_volume(kubectl.namespace))
        kubectl.apply(_filler(system.references["runtime"], f"{server.url}/good", list(files)))
        kubectl("wait", f"pod/{FILLER}", "--for=condition=Ready", "--timeout=120s")
    kubectl.apply(*(one.manifest for one in EXAMPLES))
    yield Claim(kubectl, trainings)
    kubectl("delete", "mdep", "--all")
    # What lies on the node would stay there: volumes of this kind are nobody's to clean.
    kubectl("exec", FILLER, "--", "find", CLAIMED, "-mindepth", "1", "-delete")
    kubectl("delete", "pod", FILLER, "--grace-period=0", "--force")
    kubectl("delete", "pv", kubectl.namespace, "--wait=false")


@pytest.mark.parametrize("one", EXAMPLES, ids=str)
def test_an_example_answers_in_the_cluster_as_it_did_offline(claim: Claim, one: Deployed) -> None:
    status = claim.kubectl.wait_ready(one.name, seconds=240)
    assert [revision["state"] for revision in status["revisions"]] == ["Stable"]
    trained = claim.trained(one)

    scale = trained.scale(one.answers)
    report = claim.measure(one, one.answers, "maxDifference")
    assert report.value == pytest.approx(0, abs=TOLERANCE * scale)

    metric = one.validation["metric"]
    report = claim.measure(one, one.golden, metric)
    offline = trained.facts(one.model)[metric]
    assert report.value == pytest.approx(offline, rel=1e-4, abs=TOLERANCE * scale)


def _needed(one: Deployed, trained: Trained) -> Iterator[tuple[str, Path]]:
    """Yield the files of an example that belong onto the claim: where to, and from where."""
    model = trained.folder / one.model
    files = [path for path in model.rglob("*") if path.is_file()] if model.is_dir() else [model]
    files += [trained.folder / one.golden, trained.folder / one.answers]
    for path in files:
        yield str(path.relative_to(trained.folder)), path


def _volume(name: str) -> list[Json]:
    """Return a volume on the node, and the claim to it that the examples name."""
    size = {"storage": "1Gi"}
    common: Json = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    host = {"path": f"/tmp/pilothouse-{name}", "type": "DirectoryOrCreate"}  # noqa: S108 - on the node
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **common,
                "capacity": size,
                "claimRef": {"namespace": name, "name": "models"},
                "hostPath": host,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": {**common, "volumeName": name, "resources": {"requests": size}},
        },
    ]


def _filler(image: str, address: str, names: list[str]) -> Json:
    """Return a pod that copies files onto the claim, and then is there to be asked."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": FILLER},
        "spec": {
            "securityContext": {"runAsUser": 0},
            "containers": [
                {
                    "name": FILLER,
                    "image": image,
                    "command": ["python3", "-c", _FILL, address, *names],
                    "readinessProbe": {"exec": {"command": ["cat", "/tmp/filled"]}, "periodSeconds": 1},  # noqa: S108
                    "volumeMounts": [{"name": "claim", "mountPath": CLAIMED}],
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "models"}}],
        },
    }
