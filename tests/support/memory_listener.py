"""A `Listener` to which played pods say how far they are, as one that asks real pods would hear it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilothouse.plan.samples import Drifted, Source
from pilothouse.plan.seen import Json
from pilothouse_runtime.contract import Phase, PhaseTime, PodReport
from tests.support.memory_cluster import MemoryCluster
from tests.support.played_pods import is_ready

_TOOK = (
    (Phase.STARTING, 0.4),
    (Phase.PULLING, 3.25),
    (Phase.VERIFIED, 0.0),
    (Phase.LOADING, 12.0),
    (Phase.WARMING, 0.5),
)


class MemoryListener:
    """Hears of pods that wait that they pull their model, each time with some more bytes, and of ready ones the rest.

    Attributes:
        says: what the pods of a revision say in place of that; None: nothing, as pods of other images.
        own: the same for single pods, by name.
        asked: how often pods were asked.
        drifted: what all pods say of drift; asked_of_drift: how often they were asked that.
    """

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self.says: dict[str, PodReport | None] = {}
        self.own: dict[str, PodReport | None] = {}
        self.asked = 0
        self.drifted: Drifted | None = None
        self.asked_of_drift = 0

    async def drift(self, pods: Sequence[Source]) -> Mapping[str, Drifted]:
        """See `Listener`."""
        self.asked_of_drift += len(pods)
        return {pod.uid: self.drifted for pod in pods if self.drifted is not None}

    async def listen(self, pods: Sequence[Source]) -> Mapping[str, PodReport]:
        """See `Listener`."""
        self.asked += len(pods)
        asked = {pod.uid for pod in pods}
        there = {
            body["metadata"]["uid"]: body for ref, body in self._cluster.objects.items() if ref.kind == "Pod"
        }
        reports = {uid: self._report(pod) for uid, pod in there.items() if uid in asked}
        return {uid: report for uid, report in reports.items() if report is not None}

    def _report(self, pod: Json) -> PodReport | None:
        meta = pod["metadata"]
        if meta["name"] in self.own:
            return self.own[meta["name"]]
        revision = meta["annotations"].get("deployment", "")
        if revision in self.says:
            return self.says[revision]
        now = self._cluster.now().timestamp()
        return ready(now) if is_ready(pod) else pulling(now, int(now) % 100_000)


def pulling(since: float, received: int) -> PodReport:
    """Return what a pod says that has received so many bytes."""
    history = (PhaseTime(Phase.STARTING, since, 0.4), PhaseTime(Phase.PULLING, since))
    return PodReport(Phase.PULLING, f"{received} of 100000 bytes of http://models/1.pt", since, history)


def in_phase(phase: Phase, message: str = "", since: float = 1_767_268_800.0) -> PodReport:
    """Return what a pod says in a phase."""
    return PodReport(phase, message, since, (PhaseTime(phase, since),))


def ready(since: float) -> PodReport:
    """Return what a pod says that has become ready."""
    history = (*(PhaseTime(phase, since, took) for phase, took in _TOOK), PhaseTime(Phase.READY, since))
    return PodReport(Phase.READY, "", since, history)
