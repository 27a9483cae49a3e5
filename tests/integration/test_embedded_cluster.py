"""The embedded cluster on this machine: it comes up, heals, serves pods, and goes without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from dev.cluster import Cluster, ClusterError, down, status, up
from dev.cluster.config import BUSYBOX_IMAGE
from dev.cluster.layout import Layout
from dev.cluster.sandbox import Sandbox
from dev.cluster.state import read
from tests.support.cluster import control_plane, namespace, node_cluster
from tests.support.kubectl import Json, Kubectl, RefusedError
from tests.support.waiting import until

CHECKOUT = Path(__file__).parents[2]
# kubelet writes the first two; they are the whole machine's and have to stay as they were.
_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "net/ipv4/ip_forward")
KERNEL_SETTINGS = {path: path.read_text() for path in (Path("/proc/sys", name) for name in _SETTINGS)}


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the embedded cluster, whichever one the others use."""
    monkeypatch.delenv("KUBECONFIG", raising=False)


def _command(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dev.cluster", f"--name={name}", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Traces:
    """What of one cluster can be seen on the machine from outside; other clusters may come and go meanwhile."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._marks = [layout.identity, layout.interface]
        self._namespaces: set[str] = set()

    def learn(self) -> None:
        """Take note of the addresses and namespaces of the cluster, which runs."""
        known = read(self._layout)
        assert known is not None
        addresses = known.addresses
        self._marks += [
            str(addresses.host),
            str(addresses.node),
            *map(str, (addresses.services, addresses.pods)),
        ]
        here = {str(path.readlink()) for path in Path("/proc/self/ns").iterdir()}
        pid = Sandbox(self._layout).pid()
        self._namespaces = {str(path.readlink()) for path in Path(f"/proc/{pid}/ns").iterdir()} - here

    def seen(self) -> dict[str, list[str]]:
        """Everything that bears a mark, by kind; empty when there is nothing."""
        listed = {
            "interfaces": _lines("ip", "-oneline", "link"),
            "addresses": _lines("ip", "-oneline", "address"),
            "routes": _lines("ip", "route", "show", "table", "all"),
            "iptables rules": _lines("iptables-save"),
            "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
            "cgroups": [str(path) for path in Path("/sys/fs/cgroup").rglob("*/")],
            "files": [str(path) for path in Path("/var/lib/pilothouse").glob("*")],
            "namespaces": [text for text in _namespaces() if text in self._namespaces],
            "command lines": _command_lines(),
        }
        marked = {
            kind: [
                line for line in lines if kind == "namespaces" or any(mark in line for mark in self._marks)
            ]
            for kind, lines in listed.items()
        }
        return {kind: lines for kind, lines in marked.items() if lines}


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _namespaces() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            yield str(path.readlink())
        except OSError:  # ended while we looked
            continue


def _command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace").replace("\0", " "))
        except OSError:  # ended while we looked
            continue
    return [line for line in lines if "pytest" not in line]


def test_a_control_plane_comes_up_once_and_goes_without_a_trace() -> None:
    name = "itest-once"
    layout = Layout(name)
    down(name)
    traces = Traces(layout)
    iptables = _lines("iptables-save", "--table=nat")
    assert traces.seen() == {}

    try:
        _command(name, "up", "--control-plane-only")
        traces.learn()
        during = traces.seen()
        assert {
            "interfaces",
            "addresses",
            "routes",
            "cgroups",
            "files",
            "namespaces",
            "command lines",
        } <= set(during)
        assert "mounts" not in during
        assert _rules(iptables) == _rules(_lines("iptables-save", "--table=nat"))

        environment = _command(name, "env")
        assert f"export KUBECONFIG={layout.kubeconfig}" in environment.splitlines()
        version = json.loads(Kubectl(layout.kubeconfig)("version", "--output=json"))
        assert version["serverVersion"]["gitVersion"] == "v1.20.2"

        before = Sandbox(layout).pid()
        _command(name, "up", "--control-plane-only")
        assert Sandbox(layout).pid() == before
        assert _command(name, "status").count("running") == 1 + 4  # the cluster and its four components
    finally:
        _command(name, "down")
    assert traces.seen() == {}
    assert _rules(iptables) == _rules(_lines("iptables-save", "--table=nat"))
    _command(name, "down")  # nothing to do, and no error


def _rules(saved: list[str]) -> list[str]:
    return [line for line in saved if line.startswith("-")]


def test_clusters_that_start_at_once_do_not_meet_and_one_that_is_started_twice_is_one() -> None:
    names = ["itest-left", "itest-right", "itest-left"]
    with ExitStack() as stack:
        for name in names:
            stack.callback(down, name)
        with ThreadPoolExecutor() as pool:
            left, right, again = pool.map(partial(up, control_plane_only=True), names)
        assert again == left
        assert left.host_address != right.host_address
        Kubectl(left.kubeconfig)("create", "namespace", "left-only")
        assert Kubectl(left.kubeconfig).get("namespace", "left-only") is not None
        assert Kubectl(right.kubeconfig).get("namespace", "left-only") is None
        down("itest-left")
        assert Kubectl(right.kubeconfig).get("namespace", "default") is not None


PLANE = "itest-plane"


@pytest.fixture(scope="module")
def plane() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KUBECONFIG", raising=False)
        with control_plane(PLANE) as cluster:
            yield cluster


def test_the_api_server_can_be_unplugged_and_forgets_nothing(plane: Cluster) -> None:
    kubectl = Kubectl(plane.kubeconfig)
    kubectl("create", "namespace", "kept")
    plane.stop_apiserver()
    with pytest.raises(RefusedError, match="refused"):
        kubectl("get", "namespaces", "--request-timeout=5s")
    plane.start_apiserver()
    assert kubectl.get("namespace", "kept") is not None
    assert status(PLANE).healthy


def test_a_cluster_that_kubeconfig_names_is_used_and_left_alone(
    plane: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "of-the-user"
    kubeconfig.write_bytes(plane.kubeconfig.read_bytes())
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    found = up("itest-never")
    assert (found.embedded, found.kubeconfig) == (False, kubeconfig)
    assert found.host_address == plane.host_address  # this machine's end of the way there
    assert status("itest-never").healthy
    for refused in (found.stop_apiserver, partial(found.import_image, tmp_path / "image.tar")):
        with pytest.raises(ClusterError, match="embedded clusters only"):
            refused()
    down("itest-never")
    assert not Layout("itest-never").root.exists()
    assert Kubectl(kubeconfig).get("namespace", "default") is not None


def test_what_has_ended_is_started_again_by_up_or_named_with_the_end_of_its_log(plane: Cluster) -> None:
    scheduler = Layout(PLANE).config / "scheduler.kubeconfig"
    good = scheduler.read_text()
    scheduler.write_text("no kubeconfig")
    Sandbox(Layout(PLANE)).stop("kube-scheduler")
    assert not status(PLANE).healthy

    with pytest.raises(ClusterError) as caught:
        up(PLANE, control_plane_only=True)
    assert "kube-scheduler ended with status 1" in str(caught.value)
    assert "couldn't get version/kind" in str(caught.value)
    assert "logs/kube-scheduler.log" in str(caught.value)

    scheduler.write_text(good)
    up(PLANE, control_plane_only=True)
    assert status(PLANE).healthy


def test_a_cluster_whose_machine_has_crashed_is_made_anew(plane: Cluster) -> None:
    Kubectl(plane.kubeconfig)("create", "namespace", "lost")
    sandbox = Sandbox(Layout(PLANE))
    pid = sandbox.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: sandbox.pid() is None)
    assert status(PLANE).cluster is None

    fresh = up(PLANE, control_plane_only=True)
    assert Kubectl(fresh.kubeconfig).get("namespace", "default") is not None
    assert Kubectl(fresh.kubeconfig).get("namespace", "lost") is None


# From here on: a cluster with a node.

NODE = "itest-node"


@pytest.fixture(scope="module")
def node() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KUBECONFIG", raising=False)
        with node_cluster(NODE) as cluster:
            yield cluster


@pytest.fixture
def kubectl(node: Cluster) -> Iterator[Kubectl]:
    with namespace(node) as name:
        yield Kubectl(node.kubeconfig, name)


@pytest.fixture
def models(node: Cluster, tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine, as pods reach it."""
    (tmp_path / "model").write_text("a model")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer((node.host_address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{node.host_address}:{server.server_port}"
        server.shutdown()


def _pod(name: str, *command: str, **container: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "main", "image": BUSYBOX_IMAGE, "command": ["/busybox", *command], **container}
            ],
        },
    }


def _service(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def _web_server(name: str) -> Json:
    """A pod that answers /hostname with its own name once it is Ready."""
    probe = {"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 1}
    return _pod(name, "httpd", "-f", "-v", "-p", "8080", "-h", "/etc", readinessProbe=probe)


def _read(url: str) -> str | None:
    """What is answered, or None where nobody does (kube-proxy follows a pod's readiness a moment later)."""
    try:
        with urlopen(url, timeout=10) as response:  # noqa: S310 - an address of the cluster's
            return str(response.read().decode().strip())
    except OSError:
        return None


def _wait_ready(kubectl: Kubectl, name: str) -> Json:
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    pod = kubectl.get("pod", name)
    assert pod is not None
    return pod


def _state(kubectl: Kubectl, name: str) -> Json:
    pod = kubectl.get("pod", name) or {}
    (container,) = pod.get("status", {}).get("containerStatuses") or [{}]
    return dict(container.get("state", {}))


def test_a_pod_is_reached_from_this_machine_from_other_pods_and_by_kubectl(kubectl: Kubectl) -> None:
    kubectl.apply(_web_server("web"), _service("web"), _pod("client", "sleep", "600"))
    address = _wait_ready(kubectl, "web")["status"]["podIP"]
    service = kubectl.get("service", "web")
    assert service is not None
    cluster_ip = service["spec"]["clusterIP"]
    assert _read(f"http://{address}:8080/hostname") == "web"
    assert until(lambda: _read(f"http://{cluster_ip}/hostname")) == "web"

    _wait_ready(kubectl, "client")
    fetch = ["/busybox", "wget", "-q", "-O", "-"]
    assert kubectl("exec", "client", "--", *fetch, f"http://{cluster_ip}/hostname").strip() == "web"
    # A pod reaches itself by its own Service.
    assert kubectl("exec", "web", "--", *fetch, f"http://{cluster_ip}/hostname").strip() == "web"
    assert "response:200" in kubectl("logs", "web")


def test_a_pod_reaches_the_api_server_and_a_web_server_of_this_machine(kubectl: Kubectl, models: str) -> None:
    script = f"""\
wget -q -O - {models}/model && echo
nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo api
cat /var/run/secrets/kubernetes.io/serviceaccount/namespace
"""
    aliases = "".join(f"alias {name}='/busybox {name}'\n" for name in ("wget", "nc", "cat"))
    kubectl.apply(_pod("client", "sh", "-c", aliases + script))
    until(lambda: _state(kubectl, "client").get("terminated"))
    assert kubectl("logs", "client").split() == ["a", "model", "api", kubectl.namespace]


def test_what_does_not_exist_is_refused_and_never_waited_for(kubectl: Kubectl) -> None:
    kubectl.apply(_service("nobody"), _pod("client", "sleep", "600"))
    _wait_ready(kubectl, "client")
    nobody = kubectl.get("service", "nobody")
    assert nobody is not None
    known = read(Layout(NODE))
    assert known is not None
    for host in (
        nobody["spec"]["clusterIP"],
        str(known.addresses.services[-2]),
        "no-such-host.example",
    ):
        with pytest.raises(RefusedError) as caught:
            kubectl("exec", "client", "--", "/busybox", "wget", "-O", "-", f"http://{host}/")
        assert any(said in str(caught.value) for said in ("refused", "bad address", "unreachable"))


def test_an_image_that_nobody_has_fails_with_its_name(kubectl: Kubectl) -> None:
    pod = _pod("lost")
    pod["spec"]["containers"][0] |= {"image": "pilothouse/no-such-image:1"}
    kubectl.apply(pod)

    def refused() -> str | None:
        waiting: Json = _state(kubectl, "lost").get("waiting", {})
        return waiting["message"] if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff") else None

    assert "pilothouse/no-such-image:1" in (until(refused) or "")


def test_a_container_that_takes_too_much_memory_is_said_to_have_been_killed_for_it(kubectl: Kubectl) -> None:
    kubectl.apply(_pod("greedy", "tail", "/dev/zero", resources={"limits": {"memory": "16Mi"}}))
    until(lambda: _state(kubectl, "greedy").get("terminated"))
    assert _state(kubectl, "greedy")["terminated"]["reason"] == "OOMKilled"


def test_a_volume_of_this_machine_is_claimed_and_mounted(kubectl: Kubectl, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "model").write_text("a model on a volume")
    name = kubectl.namespace
    volume: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "",
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "hostPath": {"path": str(tmp_path)},
            "claimRef": {"namespace": name, "name": "models"},
        },
    }
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {
            "storageClassName": "",
            "volumeName": name,
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    pod = _pod("reader", "cat", "/models/model", volumeMounts=[{"name": "models", "mountPath": "/models"}])
    pod["spec"]["volumes"] = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    ]
    kubectl.apply(volume, claim, pod)
    try:
        until(lambda: _state(kubectl, "reader").get("terminated"))
        assert kubectl("logs", "reader") == "a model on a volume"
    finally:
        kubectl("delete", "persistentvolume", name, "--wait=false")


def test_a_node_with_running_pods_goes_without_a_trace(node: Cluster) -> None:
    # The last test of the file: it takes the others' node down.
    layout = Layout(NODE)
    kubectl = Kubectl(node.kubeconfig)
    kubectl.apply(_web_server("web"), _service("web"))
    _wait_ready(kubectl, "web")
    traces = Traces(layout)
    traces.learn()
    assert any("kubepods" in path for path in traces.seen()["cgroups"])
    down(NODE)
    assert traces.seen() == {}
    assert {path: path.read_text() for path in KERNEL_SETTINGS} == KERNEL_SETTINGS
