"""The examples on a real node: their own YAML, from the claim that it names, and the answers that they gave offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dev import images
from dev.images.recipe import RUNTIME_TENSORFLOW
from pilothouse.api.names import LABEL_REVISION
from pilothouse.plan.seen import Json
from pilothouse_runtime import contract
from pilothouse_runtime.contract import ValidationReport
from tests.support.badserver import BadServer
from tests.support.examples import TOLERANCE, Deployed, Trained, Trainings, deployed
from tests.support.kubectl import Kubectl
from tests.support.load import service_url
from tests.support.system import System
from tests.support.waiting import until

EXAMPLES = deployed()
WATCHED = next(one for one in EXAMPLES if "drift" in one.manifest["spec"]["runtime"])
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
        kubectl.apply(*_volume(kubectl.namespace, "models"), *_volume(kubectl.namespace, "data"))
        kubectl.apply(_filler(system.references["runtime"], f"{server.url}/good", list(files)))
        kubectl("wait", f"pod/{FILLER}", "--for=condition=Ready", "--timeout=120s")
    kubectl.apply(*(one.manifest for one in EXAMPLES), elsewhere(WATCHED).manifest)
    yield Claim(kubectl, trainings)
    kubectl("delete", "mdep", "--all")
    # What lies on the node would stay there: volumes of this kind are nobody's to clean.
    kubectl("exec", FILLER, "--", "find", CLAIMED, "-mindepth", "1", "-delete")
    kubectl("delete", "pod", FILLER, "--grace-period=0", "--force")
    kubectl("delete", "pv", f"{kubectl.namespace}-models", f"{kubectl.namespace}-data", "--wait=false")


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


def elsewhere(one: Deployed) -> Deployed:
    """Return the same with its data set for drift on another claim than its model."""
    spec = one.manifest["spec"]
    uri = spec["runtime"]["drift"]["uri"].replace("pvc://models/", "pvc://data/")
    runtime = spec["runtime"] | {"drift": {"uri": uri}}
    return replace(
        one, manifest=one.manifest | {"metadata": {"name": "elsewhere"}, "spec": spec | {"runtime": runtime}}
    )


@pytest.mark.parametrize(
    ("one", "claims"), [(WATCHED, ["models"]), (elsewhere(WATCHED), ["data", "models"])], ids=str
)
def test_drift_is_measured_against_a_data_set_on_a_claim(
    claim: Claim, one: Deployed, claims: list[str]
) -> None:
    revision = claim.kubectl.wait_ready(one.name, seconds=240)["stableRevision"]
    [pod] = claim.kubectl.list("pods", f"{LABEL_REVISION}={revision}")
    volumes = [volume.get("persistentVolumeClaim", {}) for volume in pod["spec"]["volumes"]]
    assert sorted(volume["claimName"] for volume in volumes if volume) == claims

    def told() -> Json:
        """Ask once more, and return what the status says of drift."""
        claim.measure(one, one.golden, one.validation["metric"])
        return dict(claim.kubectl.revision(one.name, revision).get("drift", {}))

    drift = until(told, seconds=240, what=lambda: f"drift is told of {claim.kubectl.status(one.name)}")
    said = re.fullmatch(
        r"(input\.image|output\.reconstruction) \S+ has the index .* after ([0-9,]+) rows", drift["message"]
    )
    assert said, drift
    assert int(said[2].replace(",", "")) >= 100


def _needed(one: Deployed, trained: Trained) -> Iterator[tuple[str, Path]]:
    """Yield the files of an example that belong onto the claim: where to, and from where."""
    model = trained.folder / one.model
    files = [path for path in model.rglob("*") if path.is_file()] if model.is_dir() else [model]
    files += [trained.folder / one.golden, trained.folder / one.answers]
    for path in files:
        yield str(path.relative_to(trained.folder)), path


def _volume(namespace: str, claim: str) -> list[Json]:
    """Return a volume on the node, and a claim to it; all claims of a namespace lead to the same folder."""
    size = {"storage": "1Gi"}
    common: Json = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    name = f"{namespace}-{claim}"
    host = {"path": f"/tmp/pilothouse-{namespace}", "type": "DirectoryOrCreate"}  # noqa: S108 - on the node
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **common,
                "capacity": size,
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": host,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
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
