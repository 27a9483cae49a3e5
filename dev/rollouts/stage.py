"""Where scenarios are played: a cluster with Pilothouse, models to fetch, and a client that keeps asking."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Final

from dev import cluster as clusters
from dev import helm, images
from dev.cluster import external
from dev.demo import manifests
from dev.rollouts.recording import Act, Begun, Json
from dev.rollouts.scenarios import BAD, GOOD, Scenario
from dev.rollouts.watching import Follower, Recorder
from dev.shell import ROOT, run
from pilothouse.api.conditions import Phase

NAMESPACE: Final = "pilothouse-rollouts"
_SYSTEM = "pilothouse-system"
_MODEL = "digits"
_FIRST = "digits-mlp.pt"
_LOAD = "load"
# Some fifty requests a second, each over a connection of its own: it is connections that a Service spreads.
_MANY = ["--follow", "--batch", "1", "--renew", "1", "--connections", "6", "--pause", "0.1"]
_PATIENCE_SECONDS = 300


class StageError(Exception):
    """A rollout did not come to where the scenario expects it."""


def train(folder: Path) -> None:
    """Make the models: two good ones, and one that fails by itself on one request in four.

    Raises:
        CommandFailedError: training failed.
    """
    run([sys.executable, "-m", "examples.digits.train", "--out", str(folder)], shown=False)
    import torch
    from torch import Tensor, nn

    from examples.digits.train import SIGNATURE

    class Broken(nn.Module):
        """Takes no image in which one pixel is bright, as it is in one of four digits."""

        def forward(self, image: Tensor) -> Tensor:
            """Return logits [batch, 10]."""
            if float(image[:, 19].max()) > 12:
                raise ValueError("this pixel is too bright for me")
            return image[:, :10]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such
        scripted = torch.jit.script(Broken())
        extra = {"signature.json": json.dumps(SIGNATURE)}
        torch.jit.save(scripted, folder / BAD, _extra_files=extra)


class Theatre:
    """One cluster, made ready once for all scenarios."""

    def __init__(self, cluster: clusters.Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._image = ""
        self.store = ""
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return run([external.kubectl(), "--namespace", NAMESPACE, *arguments], shown=False, stdin=stdin)

    def put_up(self) -> None:
        """Install Pilothouse from this checkout, and put the models where pods can fetch them.

        Raises:
            HelmError, ImageError, CommandFailedError: something of it failed.
        """
        references = images.ensure(self._cluster)
        self._image = references["runtime"]
        helm.install(
            "pilothouse",
            ROOT / "charts/pilothouse",
            namespace=_SYSTEM,
            values=manifests.image_values(references),
            kubeconfig=self._cluster.kubeconfig,
        )
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        self.kubectl("create", "namespace", NAMESPACE)
        models = [self._folder / name for name in (_FIRST, GOOD, BAD)]
        files = [manifests.CLIENT_SCRIPT, self._folder / "digits-test.npz"]
        self.apply(*manifests.store(self._image, models))
        self.apply(manifests.config_map(manifests.CLIENT, {file.name: file.read_bytes() for file in files}))
        self.kubectl("rollout", "status", "deployment/models", "--timeout=120s")
        self.store = self._address("models")

    def apply(self, *objects: Json) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=text)

    def start_load(self) -> None:
        """Start the client and wait until it is answered."""
        arguments = [self._address(_MODEL), _MODEL, "/client/digits-test.npz", *_MANY]
        self.apply(manifests.client(self._image, arguments, name=_LOAD))
        self.kubectl("wait", f"pod/{_LOAD}", "--for=condition=Ready", "--timeout=60s")

    def model(self) -> Json:
        return dict(json.loads(self.kubectl("get", "mdep", _MODEL, "--output=json")))

    def clear(self) -> None:
        """Take the scenario's things away."""
        self.kubectl("delete", "pod", _LOAD, "--ignore-not-found", "--grace-period=0", "--force")
        self.kubectl("delete", "mdep", _MODEL, "--ignore-not-found", "--wait=true")
        self.kubectl("delete", "pods", "--selector", f"pilothouse.dev/model={_MODEL}", "--wait=true")

    def take_down(self) -> None:
        """Remove all that `put_up` made, for a cluster that was there before."""
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        helm.uninstall("pilothouse", namespace=_SYSTEM, kubeconfig=self._cluster.kubeconfig)
        self.kubectl("delete", "namespace", _SYSTEM, "--ignore-not-found")

    def _address(self, service: str) -> str:
        return f"http://{self.kubectl('get', 'service', service, '--output=jsonpath={.spec.clusterIP}')}"


class Performance:
    """One scenario, played in a theatre and recorded: the `Stage` of its acts."""

    def __init__(self, theatre: Theatre, scenario: Scenario) -> None:
        self._theatre = theatre
        self._scenario = scenario
        self._recorder: Recorder | None = None

    def record(self, path: Path) -> None:
        """Play the scenario, write what was seen.

        Raises:
            StageError, CommandFailedError: it took another turn.
        """
        self.apply("1", _FIRST)
        self.until(Phase.COMPLETE)
        self._theatre.start_load()
        self.rest(3)
        self._recorder = recorder = Recorder()
        recorder.note(Begun(0, self._scenario.title, "1", "2", self._scenario.replicas))
        followers = self._follow(recorder)
        try:
            self.rest(5)
            self._scenario.acts(self)
            self.rest(4)
        finally:
            for follower in followers:
                follower.stop()
        recorder.write(path)

    def apply(self, version: str, file: str) -> None:
        spec = {
            "model": {"uri": f"{self._theatre.store}/{file}", "version": version},
            "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
            "replicas": self._scenario.replicas,
            "rollout": self._scenario.rollout,
        }
        kind = {"apiVersion": "pilothouse.dev/v1alpha1", "kind": "ModelDeployment"}
        self._act(f"kubectl apply (version {version})")
        self._theatre.apply({**kind, "metadata": {"name": _MODEL}, "spec": spec})

    def command(self, name: str) -> None:
        revision = self._theatre.model()["status"]["rollout"]["revision"]
        self._act(name)
        self._theatre.kubectl("annotate", "--overwrite", "mdep", _MODEL, f"pilothouse.dev/{name}={revision}")

    def until(self, *phases: Phase) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            body = self._theatre.model()
            status = body.get("status", {})
            rollout = status.get("rollout", {})
            current = status.get("observedGeneration") == body["metadata"]["generation"]
            if (
                current
                and rollout.get("revision") == status.get("targetRevision")
                and rollout.get("phase") in phases
            ):
                return
            if time.monotonic() > end:
                raise StageError(f"{self._scenario.name}: {' or '.join(phases)} did not come: {status}")
            time.sleep(0.3)

    def settle(self) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            status = self._theatre.model()["status"]
            left = [e["name"] for e in status["revisions"] if e.get("replicas") and e["state"] != "Stable"]
            if not left and status["readyReplicas"] == self._scenario.replicas:
                return
            if time.monotonic() > end:
                raise StageError(f"{self._scenario.name}: it does not come to rest: {status}")
            time.sleep(0.3)

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def _act(self, what: str) -> None:
        if self._recorder is not None:
            self._recorder.note(Act(self._recorder.now(), what))

    def _follow(self, recorder: Recorder) -> list[Follower]:
        kubectl = [external.kubectl(), "--namespace", NAMESPACE]
        models = f"/apis/pilothouse.dev/v1alpha1/namespaces/{NAMESPACE}/modeldeployments?watch=1"
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods?watch=1&labelSelector=pilothouse.dev/revision"
        return [
            Follower([*kubectl, "get", "--raw", models], lambda event: recorder.model(event["object"])),
            Follower(
                [*kubectl, "get", "--raw", pods], lambda event: recorder.pod(event["object"], event["type"])
            ),
            Follower([*kubectl, "logs", "--follow", "--tail=1", _LOAD], recorder.answers),
        ]
