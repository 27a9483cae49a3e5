"""What is asked about the requests of revisions, and what the answer looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import inf


@dataclass(frozen=True)
class Source:
    """A pod to be asked.

    Attributes:
        uid: tells pods apart, also those that follow each other at one address.
        address: IP address.
        created: a pod younger than the window has done all that it counts within the window.
    """

    uid: str
    address: str
    created: datetime


@dataclass(frozen=True)
class Ask:
    """Which requests to count: since when, in which pods of which revisions; and what to ask Prometheus (by name)."""

    since: datetime
    pods: Mapping[str, tuple[Source, ...]]
    queries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Traffic:
    """The requests that one revision answered in a window.

    Attributes:
        requests: how many there were.
        errors: how many of them ended in a 5xx, or in a 429: the revision could not take the load.
        buckets: a histogram of seconds: (upper bound, how many took at most so long), ascending, the last bound inf.
    """

    requests: int = 0
    errors: int = 0
    buckets: tuple[tuple[float, int], ...] = ()

    @property
    def error_rate(self) -> float:
        """Share of requests that ended in an error, 0 to 1; 0 where there were none."""
        return self.errors / self.requests if self.requests else 0.0

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile of the seconds that requests took, or None where nothing was timed.

        Linear within a bucket, and the last finite bound where it lies above that: as PromQL's histogram_quantile
        (prometheus.io, "Query functions") does it.
        """
        total = self.buckets[-1][1] if self.buckets else 0
        if total == 0:
            return None
        rank = q * total
        low, below = 0.0, 0
        for bound, count in self.buckets:
            if count >= rank:
                return low if bound == inf else low + (bound - low) * (rank - below) / (count - below)
            low, below = bound, count
        return low


@dataclass(frozen=True)
class Samples:
    """The answer to an `Ask`: requests by revision, and numbers by the name of the query.

    A revision none of whose pods could be asked, or a query that gave no number, is left out.

    Attributes:
        seconds: how long the window really was: less than was asked where the operator was started within it.
    """

    since: datetime
    seconds: float
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    answers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Drifted:
    """How far a pod's requests are from the golden data set.

    Attributes:
        rows: that it has looked at.
        columns: index, and what chance does not exceed, by tensor and column.
    """

    rows: int
    columns: Mapping[tuple[str, str], tuple[float, float]]
