"""What was counted since some moment, out of counters that began at some other."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pilothouse.metrics.exposition import Counts, Reading
from pilothouse.plan.samples import Source, Traffic


@dataclass
class _Pod:
    """One pod in a window.

    Attributes:
        revision: whose requests it answers.
        since: from when on it is measured.
        base: what is not to be counted of the process that runs now.
        last: its latest reading.
        ended: what was counted of the pod's earlier processes, within the window.
    """

    revision: str
    since: datetime
    base: Counts
    last: Reading
    ended: Counts = field(default_factory=Counts)

    def follow(self, reading: Reading) -> None:
        """Take in a later reading. Where the container was started anew, its counters began at zero again."""
        if reading.is_of_another_process_than(self.last):
            # What came between the last reading and the end is lost; no counter tells of it any more.
            self.ended = self.counts
            self.base = Counts()
        self.last = reading

    @property
    def counts(self) -> Counts:
        return self.ended + (self.last.counts - self.base)


class Window:
    """The requests since one moment, by pod. A pod that vanishes stays with what was counted of it."""

    def __init__(self, since: datetime) -> None:
        self.since = since
        self._pods: dict[str, _Pod] = {}

    def add(self, revision: str, source: Source, reading: Reading, now: datetime) -> None:
        """Take in what a pod of `revision` said at the time `now`.

        Whatever a pod counted that was made within the window belongs to it. Of an older one the first reading is what
        the later ones are compared with, so that after a restart of the operator the window is shorter.
        """
        pod = self._pods.get(source.uid)
        if pod is not None:
            pod.follow(reading)
        elif source.created >= self.since:
            self._pods[source.uid] = _Pod(revision, self.since, Counts(), reading)
        else:
            self._pods[source.uid] = _Pod(revision, now, reading.counts, reading)

    def traffic(self, revision: str) -> Traffic:
        """Return what is known of the requests of a revision."""
        total = Counts()
        for pod in self._pods.values():
            if pod.revision == revision:
                total += pod.counts
        return Traffic(total.requests, total.errors, tuple(sorted(total.buckets.items())))

    def seconds(self, now: datetime) -> float:
        """Return for how long the pod that is measured longest has been measured; 0 where none is."""
        begin = min((pod.since for pod in self._pods.values()), default=now)
        return max((now - begin).total_seconds(), 0.0)
