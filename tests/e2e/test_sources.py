"""Models from a store that wants a key: who has it, who does not, and what is told on the way."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import Cluster
from pilothouse.api.names import LABEL_REVISION
from tests.support.badserver import BadServer
from tests.support.deployments import model_deployment, validation
from tests.support.fetching import SECRET, ObjectStore, object_store
from tests.support.kubectl import Json, Kubectl
from tests.support.models import GOLDEN, Models
from tests.support.system import System
from tests.support.waiting import until

_SHARED = Path("/var/lib/pilothouse-test-models")


@pytest.fixture(scope="module")
def s3(cluster: Cluster, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store with the models in the bucket `models`."""
    folder = tmp_path_factory.mktemp("s3")
    shutil.copytree(models.folder, folder / "root/models")
    (folder / "root/models/once").mkdir()
    shutil.copy(models.folder / Models.files["1"], folder / "root/models/once")
    with object_store(folder / "root", folder / "log", cluster.host_address) as store:
        yield store


@pytest.fixture(scope="module")
def secret(kubectl: Kubectl, s3: ObjectStore) -> None:
    """The Secret with the key."""
    data = {name: base64.b64encode(value.encode()).decode() for name, value in s3.secret.items()}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "data": data})


def deployment(name: str, uri: str, **spec: Any) -> Json:
    model = {"secretName": "store", **spec.pop("model", {})}
    return model_deployment(name, uri, model=model, **spec)


# By name, what goes wrong with a model, and what is told of it.
WRONG = {
    "denied": ("ModelDownloadFailed", "the store answered 403 Forbidden"),
    "nothing": ("ModelDownloadFailed", "there is no such object"),
    "changed": ("DigestMismatch", "{digest}"),
    "secretless": ("ModelDownloadFailed", 'secret "none" not found; check spec.model.secretName'),
}


@pytest.fixture(scope="module")
def wrong(kubectl: Kubectl, models: Models, s3: ObjectStore, secret: None) -> Iterator[None]:
    """Models of which nothing comes. What they need most is time, in which other tests go on."""
    name = Models.files["2"]
    key = {"AWS_SECRET_ACCESS_KEY": "planted-but-wrong"}
    data = {k: base64.b64encode(v.encode()).decode() for k, v in (s3.secret | key).items()}
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"}, "data": data})
    rollout = {"progressDeadline": "45s"}
    kubectl.apply(
        deployment("denied", f"s3://models/{name}", model={"secretName": "wrong"}, rollout=rollout),
        deployment("nothing", "s3://models/none.pt2", rollout=rollout),
        deployment("changed", f"s3://models/{name}", model={"digest": f"sha256:{'0' * 64}"}, rollout=rollout),
        deployment("secretless", f"s3://models/{name}", model={"secretName": "none"}, rollout=rollout),
    )
    yield
    kubectl("delete", "mdep", *WRONG)


@pytest.mark.usefixtures("secret", "wrong")
def test_a_model_from_a_store_is_served_and_nobody_else_has_the_key(
    system: System, kubectl: Kubectl, models: Models, cluster: Cluster
) -> None:
    name = Models.files["2"]
    uri = f"s3://models/{name}"
    rollout = {"validation": validation(f"s3://models/{GOLDEN}")}
    kubectl.apply(
        deployment(
            "served",
            uri,
            model={"digest": models.digest["2"]},
            rollout=rollout,
            runtime={"drift": {"uri": f"s3://models/{GOLDEN}"}},
        )
    )
    status = kubectl.wait_ready("served", seconds=240)
    [entry] = status["revisions"]
    assert [phase["phase"] for phase in entry["phases"]][1] == "Pulling"
    [pod] = kubectl.list("pods", f"{LABEL_REVISION}={entry['name']}")
    pod_name = pod["metadata"]["name"]
    # The key: where it must be, and everywhere else.
    for init in pod["spec"]["initContainers"]:
        assert init["envFrom"] == [{"secretRef": {"name": "store"}}]
    inside = kubectl("exec", pod_name, "--container", "model", "--", "python", "-c", _SEARCH, SECRET[:8])
    assert json.loads(inside) == {"environment": [], "files": [], "model": [name], "drift": [GOLDEN]}
    events = kubectl("get", "events", "--output", "json")
    containers = ("fetch", "fetch-drift", "model")
    logs = "".join(kubectl("logs", pod_name, "--container", container) for container in containers)
    operator = system.kubectl("logs", "--selector", "app.kubernetes.io/name=pilothouse", "--tail=-1")
    objects = kubectl("get", "mdep,pods,deployments,controllerrevisions,jobs", "--output", "json")
    assert f"brought content/{name}" in logs
    assert f"brought content/{GOLDEN}" in logs
    for told in (events, logs, operator, objects):
        assert SECRET not in told
        assert base64.b64encode(SECRET.encode()).decode() not in told
    kubectl("delete", "mdep", "served")


# Looks at the environments of all processes and at all files that the container may read.
_SEARCH = """
import json, os, pathlib, sys
planted = sys.argv[1].encode()
sys.argv[1] = ""
def holds(path):
    try:
        return planted in path.read_bytes()
    except OSError:
        return False
environment = [p for p in os.listdir("/proc") if p.isdigit() and holds(pathlib.Path("/proc", p, "environ"))]
files = []
for top in ("/tmp", "/var", "/mnt", "/run", "/etc", "/dev/shm", "/home", "/root", "/opt/pilothouse"):
    for parent, _, names in os.walk(top):
        files += [str(p) for n in names if (p := pathlib.Path(parent, n)).is_file() and holds(p)]
fetched = {what: os.listdir(f"/mnt/{what}/content") for what in ("model", "drift")}
print(json.dumps({"environment": environment, "files": files} | fetched))
"""


@pytest.mark.usefixtures("wrong")
def test_progress_is_told_while_a_model_is_fetched(
    kubectl: Kubectl, cluster: Cluster, models: Models
) -> None:
    name = Models.files["2"]
    token = base64.b64encode(b"planted-token").decode()
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "web"},
            "data": {"HTTP_BEARER_TOKEN": token},
        }
    )
    with BadServer({name: (models.folder / name).read_bytes()}, host=cluster.host_address) as server:
        kubectl.apply(deployment("slow", f"{server.url}/slow/{name}", model={"secretName": "web"}))
        loading: list[Json] = []

        def ready() -> bool:
            for entry in kubectl.status("slow").get("revisions", ()):
                loading.append(entry.get("loading", {}))
            return kubectl.ready("slow")

        until(ready, seconds=120, every=0.5)
        assert all(headers["Authorization"] == "Bearer planted-token" for _, headers in server.seen)
    told = [said["message"] for said in loading if said.get("phase") == "Pulling" and "message" in said]
    assert any(f"B from {server.url}/slow/{name}" in message and " of " in message for message in told), told
    [entry] = kubectl.status("slow")["revisions"]
    took = {phase["phase"]: phase["took"] for phase in entry["phases"]}
    assert float(took["Pulling"].removesuffix("s")) > 10, "what the other container took is counted"
    kubectl("delete", "mdep", "slow")


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("name", WRONG)
def test_what_goes_wrong_is_told(kubectl: Kubectl, models: Models, name: str) -> None:
    reason, message = WRONG[name]
    stalled = kubectl.wait_stalled(name, seconds=120)
    assert stalled["reason"] == reason
    assert message.format(digest=models.digest["2"]) in stalled["message"]
    assert reason in kubectl("get", "mdep", name)
    assert "planted" not in json.dumps(kubectl.status(name))


@pytest.fixture
def shared(system: System, cluster: Cluster) -> Iterator[Path]:
    """A folder of the node in which pods share models."""
    cluster.execute(["install", "--directory", "--mode=1777", str(_SHARED)])
    system.install(cache={"hostPath": str(_SHARED)})
    yield _SHARED
    system.install()
    cluster.execute(["rm", "--recursive", "--force", str(_SHARED)])


@pytest.mark.usefixtures("secret")
def test_two_pods_of_a_node_download_a_model_once(
    kubectl: Kubectl, models: Models, s3: ObjectStore, shared: Path, cluster: Cluster
) -> None:
    name = Models.files["1"]
    digest = {"digest": models.digest["1"]}
    kubectl.apply(deployment("twice", f"s3://models/once/{name}", model=digest, replicas=2))
    kubectl.wait_ready("twice", seconds=240)
    assert s3.gets(f"models/once/{name}") == 1
    entries = cluster.execute(["ls", str(shared / kubectl.namespace)]).split()
    assert models.digest["1"].replace(":", "-") in entries
    kubectl("delete", "mdep", "twice")
