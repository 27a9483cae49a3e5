"""A steady load on a served model, from a real HTTP client in a pod of its own."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dev.demo import manifests
from tests.support.kubectl import Json, Kubectl
from tests.support.waiting import until

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """A client that is sending requests."""

    kubectl: Kubectl
    pod: str

    def tallies(self) -> list[Json]:
        """Return what had come of the requests at the end of each second, as examples/digits/client.py tells it."""
        lines = self.kubectl("logs", self.pod).splitlines()
        return [dict(json.loads(line)) for line in lines if line.startswith("{")]

    def tally(self) -> Json:
        """Return what has come of the requests so far; at first nothing."""
        return next(reversed(self.tallies()), {})

    def failures(self) -> list[str]:
        """Return what failed so far and when, a line for each second in which something did."""
        lines: list[str] = []
        before: Json = {"failed": 0, "requests": 0}
        for tally in self.tallies():
            if tally["failed"] > before["failed"]:
                told = f"{tally['failed'] - before['failed']} of {tally['requests'] - before['requests']} requests"
                lines.append(f"in the second before {tally['at']}: {told} failed; so far {tally['failures']}")
            before = tally
        return lines

    def answered(self, version: str) -> int:
        """Return how many rows this version of the model has answered."""
        return rows(self.tally(), version)

    def more(self, requests: int = 50) -> Json:
        """Wait until so many requests more have come to an end, all after this call, and return the tally."""
        told = len(self.tallies())

        def enough() -> Json | None:
            later = self.tallies()[told:]
            return later[-1] if later and later[-1]["requests"] >= later[0]["requests"] + requests else None

        found = until(enough, seconds=60, what=lambda: f"{requests} more requests: {self.tally()}")
        assert found is not None
        return found

    def shares(self, begin: float, end: float) -> dict[str, float]:
        """Return the share of the rows between two moments (seconds since 1970) that each version answered.

        The clocks of this machine and of the node are taken to agree.
        """
        within = [tally for tally in self.tallies() if begin <= tally["at"] <= end]
        assert len(within) > 1, f"no two tallies between {begin} and {end}"
        first, last = within[0], within[-1]
        counts = {version: rows(last, version) - rows(first, version) for version in last["versions"]}
        return {version: count / sum(counts.values()) for version, count in counts.items()}


def rows(tally: Json, version: str) -> int:
    """Return how many rows this version of the model has answered by a tally."""
    return int(tally.get("versions", {}).get(version, {}).get("rows", 0))


def service_url(kubectl: Kubectl, service: str) -> str:
    """Return where a Service answers, for clusters with and without DNS."""
    found = kubectl.get("service", service)
    assert found is not None
    return f"http://{found['spec']['clusterIP']}"


@contextmanager
def load(
    kubectl: Kubectl, image: str, model: str, *, renew: int = 0, pause: float = 0.02, connections: int = 4
) -> Iterator[Load]:
    """Send digits to a model for as long as the block runs.

    Args:
        kubectl: where the model is.
        image: the runtime's, which has all that the client needs.
        model: name of the model.
        renew: requests in a connection, each of which meets whichever pod the Service chooses; 0: it stays open.
        pause: seconds between a connection's requests.
        connections: how many there are at once.
    """
    pod = f"load-{uuid.uuid4().hex[:6]}"
    how = [f"--renew={renew}", f"--pause={pause}", f"--connections={connections}"]
    arguments = [service_url(kubectl, model), model, "/client/digits-test.npz", "--follow", *how]
    kubectl.apply(manifests.client(image, arguments, name=pod))
    try:
        kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=60s")
        running = Load(kubectl, pod)
        until(running.tally, seconds=60, what=lambda: kubectl("describe", "pod", pod))
        yield running
        for line in running.failures():
            log.warning(line)  # pytest shows it where the test then fails
    finally:
        kubectl("delete", "pod", pod, "--wait=false")


def measure(kubectl: Kubectl, image: str, model: str, *, service: str | None = None) -> Json:
    """Send every held-out digit once and return the tally; to another of the model's Services where one is named."""
    pod = f"measure-{uuid.uuid4().hex[:6]}"
    url = service_url(kubectl, service or model)
    kubectl.apply(manifests.client(image, [url, model, "/client/digits-test.npz"], name=pod))

    def phase() -> str:
        return str((kubectl.get("pod", pod) or {}).get("status", {}).get("phase"))

    until(
        lambda: phase() in ("Succeeded", "Failed"), seconds=60, what=lambda: kubectl("describe", "pod", pod)
    )
    return dict(json.loads(kubectl("logs", pod).splitlines()[-1]))
