"""A steady load on a served model, from a real HTTP client in a pod of its own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dev.demo import manifests
from tests.support.kubectl import Json, Kubectl
from tests.support.waiting import until


@dataclass(frozen=True)
class Load:
    """A client that is sending requests."""

    kubectl: Kubectl
    pod: str

    def tally(self) -> Json:
        """Return what has come of the requests so far, as examples/digits/client.py tells it; at first nothing."""
        lines = [line for line in self.kubectl("logs", self.pod).splitlines() if line.startswith("{")]
        return dict(json.loads(lines[-1])) if lines else {}

    def answered(self, version: str) -> int:
        """Return how many rows this version of the model has answered."""
        return int(self.tally().get("versions", {}).get(version, {}).get("rows", 0))

    def more(self, requests: int = 50) -> None:
        """Wait until so many more requests have been answered."""
        before = self.tally().get("requests", 0)
        until(lambda: self.tally().get("requests", 0) >= before + requests, seconds=60)


def service_url(kubectl: Kubectl, model: str) -> str:
    """Return where a model is served, for clusters with and without DNS."""
    service = kubectl.get("service", model)
    assert service is not None
    return f"http://{service['spec']['clusterIP']}"


@contextmanager
def load(kubectl: Kubectl, image: str, model: str) -> Iterator[Load]:
    """Send digits to a model from four connections for as long as the block runs."""
    pod = f"load-{uuid.uuid4().hex[:6]}"
    arguments = [service_url(kubectl, model), model, "/client/digits-test.npz", "--follow"]
    kubectl.apply(manifests.client(image, arguments, name=pod))
    try:
        kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=60s")
        running = Load(kubectl, pod)
        until(running.tally, seconds=60, what=lambda: kubectl("describe", "pod", pod))
        yield running
    finally:
        kubectl("delete", "pod", pod, "--wait=false")


def measure(kubectl: Kubectl, image: str, model: str) -> Json:
    """Send every held-out digit once and return the tally."""
    pod = f"measure-{uuid.uuid4().hex[:6]}"
    arguments = [service_url(kubectl, model), model, "/client/digits-test.npz"]
    kubectl.apply(manifests.client(image, arguments, name=pod))

    def phase() -> str:
        return str((kubectl.get("pod", pod) or {}).get("status", {}).get("phase"))

    until(
        lambda: phase() in ("Succeeded", "Failed"), seconds=60, what=lambda: kubectl("describe", "pod", pod)
    )
    return dict(json.loads(kubectl("logs", pod).splitlines()[-1]))
