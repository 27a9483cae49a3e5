"""The main job, start to end: two versions of a real model, served one after the other, and measured.

Each command is printed as a user would type it. Nothing is left behind but caches, unless KEEP=1.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dev import cluster as clusters
from dev import helm, images
from dev.cluster import external
from dev.demo import manifests
from dev.demo.watch import Watch
from dev.shell import ROOT, CommandFailedError, indented, run, show

NAMESPACE = "pilothouse-demo"
SYSTEM = "pilothouse-system"
RELEASE = "pilothouse"
MODEL = "digits"
FILES = {"1": "digits-mlp.pt", "2": "digits-cnn.pt2"}
KUBECTL = external.kubectl()
_CRD = "modeldeployments.pilothouse.dev"


class DemoError(Exception):
    """The demo did not show what it is there to show."""


class Demo:
    """One run of the demo, against one cluster."""

    def __init__(self, cluster: clusters.Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._images: dict[str, str] = {}
        self._folder = folder
        self._began = time.monotonic()
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)

    def step(self, title: str) -> None:
        print(f"\n==> [{time.monotonic() - self._began:4.0f} s] {title}", flush=True)

    def kubectl(self, *arguments: str, shown: bool = True, stdin: str | None = None) -> str:
        return run([KUBECTL, "--namespace", NAMESPACE, *arguments], shown=shown, stdin=stdin)

    def check_free(self) -> None:
        """Make sure that nobody uses Pilothouse in this cluster: the demo installs its own, and removes it again.

        Raises:
            DemoError: somebody does.
        """
        if not self.kubectl("get", "crd", _CRD, "--ignore-not-found", shown=False).strip():
            return
        found = self.kubectl("get", "mdep", "--all-namespaces", "--no-headers", "--output=name", shown=False)
        installed = self.kubectl(
            *["get", "deployments", "--all-namespaces", "--selector", "app.kubernetes.io/name=pilothouse"],
            "--output=jsonpath={.items[*].metadata.namespace}",
            shown=False,
        ).split()
        elsewhere = [namespace for namespace in installed if namespace != SYSTEM]
        if elsewhere or (found.strip() and not installed):
            raise DemoError(
                f"Pilothouse is in use in this cluster ({', '.join(elsewhere) or 'there are ModelDeployments'}); "
                "the demo would get in its way. Unset KUBECONFIG to run it in a cluster of its own"
            )

    def accuracies(self, trained: str) -> dict[str, float]:
        """Show what the training said, and return the offline accuracy by version."""
        self.step("Train two models on scikit-learn's digits: a plain network (v1) and a CNN (v2)")
        show(_training(self._folder))
        indented(trained)
        report = json.loads((self._folder / "report.json").read_text())
        return {version: float(report[file]["accuracy"]) for version, file in FILES.items()}

    def install(self) -> None:
        self.step("Install Pilothouse")
        # An earlier run that was cut off may have left its namespace.
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", shown=False)
        helm.install(
            RELEASE,
            ROOT / "charts/pilothouse",
            namespace=SYSTEM,
            values=manifests.image_values(self._images),
            kubeconfig=self._cluster.kubeconfig,
            shown=True,
        )

    def put_up_store(self) -> str:
        """Start the file server for models and return its address."""
        self.step("Put the models where pods can fetch them: a small file server in the cluster")
        self.kubectl("create", "namespace", NAMESPACE)
        files = [self._folder / file for file in (*FILES.values(), "digits-golden.npz")]
        objects = manifests.store(self._images["runtime"], files)
        self.kubectl("apply", "--server-side", "--filename", "-", shown=False, stdin=_list(objects))
        client_files = [manifests.CLIENT_SCRIPT, self._folder / "digits-test.npz"]
        client = manifests.config_map(
            manifests.CLIENT, {path.name: path.read_bytes() for path in client_files}
        )
        self.kubectl("apply", "--server-side", "--filename", "-", shown=False, stdin=_list([client]))
        self.kubectl("rollout", "status", "deployment/models", "--timeout=120s")
        address = self.kubectl(
            "get", "service", "models", "--output", "jsonpath={.spec.clusterIP}", shown=False
        )
        return f"http://{address}"

    def deploy(self, version: str, store: str) -> Path:
        """Write the ModelDeployment of a version and apply it."""
        text = (ROOT / f"examples/digits/v{version}.yaml").read_text().replace("pvc://models", store)
        path = self._folder / f"v{version}.yaml"
        path.write_text(text)
        print()
        print("\n".join(f"    {line}" for line in text.splitlines() if not line.startswith("#")))
        self.kubectl("apply", "--filename", str(path))
        return path

    def wait_ready(self) -> None:
        self.kubectl("wait", f"mdep/{MODEL}", "--for=condition=Ready", "--timeout=300s")

    def url(self) -> str:
        address = self.kubectl("get", "service", MODEL, "--output", "jsonpath={.spec.clusterIP}", shown=False)
        return f"http://{address}"

    def run_client(self, *options: str, name: str) -> None:
        """Start the client in the cluster, with the held-out digits."""
        arguments = [self.url(), MODEL, "/client/digits-test.npz", *options]
        show(["python", "examples/digits/client.py", *arguments])
        pod = manifests.client(self._images["runtime"], arguments, name=name)
        self.kubectl("apply", "--server-side", "--filename", "-", shown=False, stdin=_list([pod]))

    def tally(self, name: str) -> manifests.Json:
        """Return the last tally that a client printed."""
        lines = self.kubectl("logs", name, shown=False).splitlines()
        tallies = [line for line in lines if line.startswith("{")]
        if not tallies:
            raise DemoError(f"the client {name} said nothing but: {lines}")
        return dict(json.loads(tallies[-1]))

    def until(self, condition: str, *, seconds: float = 120) -> None:
        """Wait until a pod-like `kubectl wait` condition holds."""
        self.kubectl("wait", *condition.split(), f"--timeout={seconds:.0f}s", shown=False)

    def wait_ended(self, revision: str) -> None:
        """Wait until no container of a revision runs any more.

        The pods' objects may stay longer: an old kubelet takes its time to clean up behind them.
        """
        running = "{.items[*].status.containerStatuses[*].state.running.startedAt}"
        selector = f"--selector=pilothouse.dev/revision={revision}"
        end = time.monotonic() + 120
        while self.kubectl("get", "pods", selector, f"--output=jsonpath={running}", shown=False).strip():
            if time.monotonic() > end:
                raise DemoError(f"the pods of {revision} still run two minutes after they were replaced")
            time.sleep(0.5)

    def measure(self, version: str, offline: float) -> float:
        """Send every held-out digit once and print the served accuracy beside the offline one."""
        name = f"client-{version}"
        self.run_client(name=name)
        self.until(f"pod/{name} --for=jsonpath={{.status.phase}}=Succeeded")
        tally = self.tally(name)
        served = tally["versions"][version]["accuracy"]
        rows = tally["versions"][version]["rows"]
        print(f"    {rows} held-out digits: accuracy served {served:.4f}, offline {offline:.4f}")
        if tally["failed"] or abs(served - offline) > 1e-4:
            raise DemoError(f"the served model does not answer as the trained one does: {tally}")
        return float(served)

    def replace(self, store: str) -> None:
        """Roll out version 2 while requests keep coming, until the old pods are gone."""
        self.step("Replace it with v2, step by step, while four connections keep sending requests")
        self.run_client("--follow", "--renew=20", name="client-load")
        self.until("pod/client-load --for=condition=Ready")
        watch = Watch([KUBECTL, "--namespace", NAMESPACE, "get", "mdep", MODEL, "--watch"])
        old = self.kubectl("get", "mdep", MODEL, "--output", "jsonpath={.status.stableRevision}", shown=False)
        try:
            self.deploy("2", store)
            self.wait_ready()
            print(
                "\n    v2 has the traffic; the pods of v1 stay until their connections have ended (scaleDownDelay)"
            )
            self.wait_ended(old)
        finally:
            watch.stop()
        self.kubectl("delete", "pod", "client-load", "--wait=false", shown=False)
        tally = self.tally("client-load")
        print(f"\n    {tally['requests']} requests during the change, {tally['failed']} failed; by version:")
        for version, numbers in tally["versions"].items():
            print(f"      v{version}: {numbers['rows']} digits, accuracy {numbers['accuracy']:.4f}")
        if tally["failed"] or set(tally["versions"]) != {"1", "2"}:
            raise DemoError(f"requests failed, or one version never answered: {tally}")

    def clean(self) -> None:
        self.step("Clean up")
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        helm.uninstall(RELEASE, namespace=SYSTEM, kubeconfig=self._cluster.kubeconfig, shown=True)
        self.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found")
        # Helm keeps it, since with it go all models; here they were only ours (see `check_free`).
        self.kubectl("delete", "crd", _CRD, "--ignore-not-found")

    def run(self, trained: str) -> None:
        self.step("Load the images into the cluster")
        self._images = images.ensure(self._cluster)
        offline = self.accuracies(trained)
        self.install()
        store = self.put_up_store()
        self.step("Serve v1")
        self.deploy("1", store)
        self.wait_ready()
        self.kubectl("get", "mdep", "--output", "wide")
        self.step("Send it the held-out digits")
        first = self.measure("1", offline["1"])
        self.replace(store)
        self.step("Send v2 the held-out digits")
        second = self.measure("2", offline["2"])
        self.kubectl("get", "mdep", "--output", "wide")
        self.kubectl("get", "events", "--field-selector", "involvedObject.kind=ModelDeployment")
        if second <= first:
            raise DemoError(f"v2 ({second:.4f}) should be better than v1 ({first:.4f})")
        self.step(f"Done: accuracy went from {first:.4f} to {second:.4f}, and not one request failed")


def prepare(folder: Path) -> tuple[clusters.Cluster, str]:
    """Return a cluster, and what training the models in `folder` said.

    The images are built meanwhile as well: on a fresh machine each of these takes minutes, and none needs another.
    """
    with ThreadPoolExecutor(2) as others:
        training = others.submit(run, _training(folder), shown=False)
        building = others.submit(images.build) if external.named() is None else None
        cluster = clusters.up()
        if building is not None:
            building.result()
        return cluster, training.result()


def _training(folder: Path) -> list[str]:
    return [sys.executable, "-m", "examples.digits.train", "--out", str(folder)]


def _list(objects: list[manifests.Json]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def demonstrate(folder: Path) -> None:
    """Run the demo, and leave things as they were found, unless KEEP=1.

    Raises:
        DemoError, CommandFailedError, ClusterError, ImageError, HelmError: something was not as it should be.
    """
    keep = os.environ.get("KEEP") == "1"
    was_there = clusters.status().cluster is not None
    print("==> Start a cluster, build the images, train the models", flush=True)
    try:
        cluster, trained = prepare(folder)
        demo = Demo(cluster, folder)
        demo.check_free()
        try:
            demo.run(trained)
        finally:
            if was_there and not keep:
                demo.clean()
    finally:
        if not was_there and not keep:
            print("\n==> Take the cluster down", flush=True)
            clusters.down()
    if keep:
        print("\n    KEEP=1: all is left running. To use it: eval $(.venv/bin/python -m dev.cluster env)")


def main() -> int:
    """Run the demo; the exit status is 0 only if everything was as it should be."""
    try:
        with tempfile.TemporaryDirectory(prefix="pilothouse-demo-") as folder:
            demonstrate(Path(folder))
    except (clusters.ClusterError, CommandFailedError, DemoError, images.ImageError, helm.HelmError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
