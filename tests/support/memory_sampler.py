"""A `Sampler` that reads the counters of played pods, as one that asks real pods for their metrics would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from math import inf

from pilothouse.plan.samples import Ask, Samples, Source, Traffic
from pilothouse.plan.seen import Key
from tests.support.played_traffic import PlayedTraffic, Spell

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, inf)


class MemorySampler:
    """Knows of a pod only what its counters have gained since they were first read, and all of a young pod.

    What was read before is kept in memory: a new operator has a new one of these, and begins anew.
    """

    def __init__(self, traffic: PlayedTraffic, now: Callable[[], datetime]) -> None:
        self._traffic = traffic
        self._now = now
        self._first_read: dict[str, datetime] = {}

    async def sample(self, key: Key, ask: Ask) -> Samples:
        """See `Sampler`."""
        now = self._now()
        counted: dict[str, Traffic] = {}
        starts: list[datetime] = []
        for revision, pods in ask.pods.items():
            if not pods or revision in self._traffic.silent:
                continue
            spells: list[Spell] = []
            for pod in pods:
                start = self._start(pod, ask.since, now)
                starts.append(start)
                spells += self._traffic.since(pod.uid, start)
            counted[revision] = _counted(spells)
        began = max(starts, default=now)
        answers = {name: n for name, n in self._traffic.answers.items() if name in ask.queries}
        return Samples(ask.since, (now - began).total_seconds(), counted, answers)

    def forget(self, key: Key) -> None:
        """See `Sampler`."""
        self._first_read.clear()

    def _start(self, pod: Source, since: datetime, now: datetime) -> datetime:
        """Return from when on the pod's counters tell of the window that begins at `since`."""
        first_read = self._first_read.setdefault(pod.uid, now)
        return since if pod.created >= since else max(since, first_read)


def _counted(spells: Sequence[Spell]) -> Traffic:
    requests = int(sum(spell.requests for spell in spells) + 1e-6)
    errors = min(round(sum(spell.errors for spell in spells)), requests)
    within = [sum(s.requests for s in spells if s.seconds <= bound) for bound in _BOUNDS]
    buckets = tuple((bound, int(count + 1e-6)) for bound, count in zip(_BOUNDS, within, strict=True))
    return Traffic(requests, errors, buckets)
