"""Reads what a runtime pod tells about itself at `contract.METRICS_PATH`.

The page is in Prometheus' text format 0.0.4 (prometheus.io, "Exposition formats"). A pod runs a user's image, so its
page may say anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from pilothouse_runtime import contract

_BUCKET: Final = f"{contract.METRIC_REQUEST_SECONDS}_bucket"
# Every client library tells it, on Linux (prometheus.io, "Writing client libraries", "Process metrics").
_STARTED: Final = "process_start_time_seconds"
_OURS: Final = (contract.METRIC_REQUESTS, _BUCKET, contract.METRIC_MODEL_INFO, _STARTED)
_TYPE: Final = f"# TYPE {contract.METRIC_REQUESTS} counter"
_SAME_START_SECONDS: Final = 1.0
# A page of ours has some thirty such lines. Parsing is slow, and must not keep the operator from its Lease.
_MOST_LINES: Final = 2000
_MOST: Final = 2.0**53  # numbers are floats in this format, and from here on not exact

# The client went away before its answer: nothing was told to anybody, by nobody's fault.
_CLIENT_LEFT: Final = 499
# The runtime's queue was full: for a user a failed request, and the revision's doing.
_TOO_MANY: Final = 429


class UnreadablePageError(ValueError):
    """The page is not one of a Pilothouse runtime; the message says why."""


@dataclass(frozen=True)
class Counts:
    """Counted requests.

    Attributes:
        requests: all but those whose client left.
        errors: those of them that ended in a 5xx or a 429.
        buckets: how many took at most so many seconds, by the upper bound, inf included; empty where none is known.
    """

    requests: int = 0
    errors: int = 0
    buckets: Mapping[float, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        """Return both together. Where bounds differ, those that both have are kept: their counts stay exact."""
        if not self.buckets or not other.buckets:
            buckets = dict(self.buckets or other.buckets)
        else:
            buckets = {b: n + other.buckets[b] for b, n in self.buckets.items() if b in other.buckets}
        return Counts(self.requests + other.requests, self.errors + other.errors, buckets)

    def __sub__(self, before: Counts) -> Counts:
        """Return what was counted since `before`, which the same counters said earlier."""
        buckets = {bound: n - before.buckets.get(bound, 0) for bound, n in self.buckets.items()}
        return Counts(self.requests - before.requests, self.errors - before.errors, buckets)

    def fell_below(self, before: Counts) -> bool:
        """Whether any counter is lower than in `before`, which counters only are after a new start."""
        return (
            self.requests < before.requests
            or self.errors < before.errors
            or any(self.buckets.get(bound, 0) < n for bound, n in before.buckets.items())
        )


@dataclass(frozen=True)
class Reading:
    """What one page says.

    Attributes:
        counts: since the process was started.
        started: when that was (seconds since 1970), or None where the page does not say.
        revisions: what it says it serves; empty where it does not say or has loaded nothing yet.
    """

    counts: Counts
    started: float | None
    revisions: frozenset[str]

    def is_of_another_process_than(self, before: Reading) -> bool:
        """Whether the container was started anew since `before`: counters fell, or it began at another time."""
        both_told = self.started is not None and before.started is not None
        moved = both_told and abs((self.started or 0.0) - (before.started or 0.0)) > _SAME_START_SECONDS
        return moved or self.counts.fell_below(before.counts)


def read(page: bytes) -> Reading:
    """Return what a page says.

    Raises:
        UnreadablePageError: it is not in the format, or lacks our counters, or counts what cannot be counted.
    """
    by_code: dict[int, int] = {}
    buckets: dict[float, int] = {}
    started: float | None = None
    revisions: set[str] = set()
    for name, labels, value in _samples(page):
        if name == contract.METRIC_REQUESTS:
            code = _whole(labels.get("code", ""))
            by_code[code] = by_code.get(code, 0) + _count(value)
        elif name == _BUCKET:
            bound = _number(labels.get("le", ""))
            buckets[bound] = buckets.get(bound, 0) + _count(value)
        elif name == contract.METRIC_MODEL_INFO:
            revisions.add(labels.get("revision", ""))
        else:
            started = value
    _check(buckets)
    counts = Counts(
        requests=sum(n for code, n in by_code.items() if code != _CLIENT_LEFT),
        errors=sum(n for code, n in by_code.items() if code >= 500 or code == _TOO_MANY),
        buckets=buckets,
    )
    return Reading(counts, started, frozenset(revisions - {""}))


def _samples(page: bytes) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield name, labels and value of the samples of our metrics; other lines are not looked at."""
    try:
        lines = page.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UnreadablePageError("the page is not text") from error
    ours = [line for line in lines if line.startswith(_OURS)]
    # A counter with labels has no samples before the first request, but its type is told from the beginning.
    if _TYPE not in lines and not any(line.startswith(contract.METRIC_REQUESTS) for line in ours):
        raise UnreadablePageError(f"there is no {contract.METRIC_REQUESTS} in the page")
    if len(ours) > _MOST_LINES:
        raise UnreadablePageError(f"the page has more than {_MOST_LINES} lines of our metrics")
    try:
        for family in text_string_to_metric_families("\n".join(ours) + "\n"):
            for sample in family.samples:
                if sample.name in _OURS:
                    yield sample.name, sample.labels, sample.value
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # The parser was made for well-formed pages, and trips over others in all these ways.
        raise UnreadablePageError(f"the page is not in Prometheus' text format: {error}") from error


def _check(buckets: Mapping[float, int]) -> None:
    counts = [buckets[bound] for bound in sorted(buckets)]
    if counts != sorted(counts) or (buckets and inf not in buckets):
        raise UnreadablePageError("the buckets are no histogram")


def _count(value: float) -> int:
    if not isfinite(value) or not 0 <= value <= _MOST:
        raise UnreadablePageError(f"{value} is no count")
    return int(value)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        raise UnreadablePageError(f"{text!r} is no HTTP status")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number != number:  # NaN
        raise UnreadablePageError(f"{text!r} is no bound of a bucket")
    return number
