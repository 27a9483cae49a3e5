"""How far inputs and outputs are from the golden data set, as metrics.

At most some requests a second are looked at, some rows of each, in the event loop: what a look costs is bounded, and
so is the share of time that looks take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from pilothouse_runtime import contract
from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.profiles import INPUT, MIN_ROWS, MOST_SEEN, OUTPUT, Column, Profile, columns
from pilothouse_runtime.core.tensors import Array, Tensor
from pilothouse_runtime.serve.watching import Result, Seen

WINDOW: Final = 4096  # rows of each tensor that are compared: the latest ones
_BETWEEN: Final = 0.05  # seconds between two requests that are looked at
_ROWS: Final = 32  # of one request


class Drift:
    """A watcher (`serve.watching.Watcher`) that compares what it sees with a profile.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, profile: Profile, clock: Callable[[], float] = time.monotonic) -> None:
        self._golden = profile.rows
        self._clock = clock
        self._due = 0.0
        self._rows = 0
        self._windows = {
            name: {column.name: _Window(column) for column in found}
            for name, found in profile.tensors.items()
        }

    def begin(self, job: Job) -> Seen | None:
        """See `Watcher`."""
        now = self._clock()
        if now < self._due:
            return None
        self._due = now + _BETWEEN
        # Before the run: a model may write to its inputs.
        inputs = self._told(INPUT, job.inputs)
        return lambda result: self._take(inputs, result)

    def families(self) -> Iterator[Metric]:
        """Yield the metrics of now; the index only once there are as many rows as a profile needs."""
        index = GaugeMetricFamily(
            contract.METRIC_DRIFT,
            "Population stability index of the latest rows against the golden data set.",
            labels=["tensor", "column"],
        )
        threshold = GaugeMetricFamily(
            contract.METRIC_DRIFT_THRESHOLD,
            "What the index exceeds only where something has changed.",
            labels=["tensor", "column"],
        )
        for name, windows in self._windows.items():
            for column, window in windows.items():
                if window.rows >= MIN_ROWS:
                    index.add_metric([name, column], window.column.index(window.counts()))
                    threshold.add_metric([name, column], window.column.threshold(window.rows, self._golden))
        yield index
        yield threshold
        rows = "Rows of requests that were compared with the golden data set, since the start."
        yield GaugeMetricFamily(contract.METRIC_DRIFT_ROWS, rows, value=self._rows)

    def _told(self, prefix: str, tensors: Sequence[Tensor]) -> list[tuple[_Window, Array]]:
        """Return what some rows of tensors come to, and where to count it."""
        told = []
        for tensor in tensors:
            windows = self._windows.get(prefix + tensor.name)
            if windows is not None:
                for column, values in columns(_some(tensor.array), is_output=prefix is OUTPUT):
                    if column in windows:
                        told.append((windows[column], values))
        return told

    def _take(self, inputs: list[tuple[_Window, Array]], result: Result) -> None:
        if isinstance(result, RequestError):
            return  # what is refused says nothing of what is answered
        for window, values in (*inputs, *self._told(OUTPUT, result)):
            window.add(values)
        self._rows += max((len(values) for _, values in inputs), default=0)


def _some(array: Array) -> Array:
    """Return the first rows, fewer of large ones."""
    width = array.size // len(array) if array.ndim and len(array) else 1
    return array[: max(1, min(_ROWS, MOST_SEEN // max(width, 1)))] if array.ndim else array


class _Window:
    """The bins of the latest rows."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.rows = 0
        self._at = 0
        self._bins = np.zeros(WINDOW, np.int16)

    def add(self, values: Array) -> None:
        places = (self._at + np.arange(len(values))) % WINDOW
        self._bins[places] = self.column.bins(values)
        self._at = (self._at + len(values)) % WINDOW
        self.rows = min(self.rows + len(values), WINDOW)

    def counts(self) -> Array:
        return np.bincount(self._bins[: self.rows], minlength=len(self.column.expected))
