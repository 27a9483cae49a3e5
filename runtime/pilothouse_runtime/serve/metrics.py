"""The Prometheus metrics of one server; their names are in `contract`.

What is counted for every request lies in one block of numbers and costs some tenths of a microsecond each; the library
that writes the page reads it when it is asked for. Where several processes serve the model, each counts in a block of
its own in memory that they share, and whichever is asked shows the sums.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pilothouse_runtime import contract
from pilothouse_runtime.core.errors import Code
from pilothouse_runtime.core.predictor import ModelDescription
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.calls import Call

# Bounds in seconds, by the E6 series of preferred numbers (IEC 60063) from 1 ms to 1 s: the bounds on either side of a
# percentile are at most 1.5 times apart, so that read by interpolation it is off by less than half. Coarser beyond.
BUCKETS: Final = (
    *(0.001, 0.0015, 0.0022, 0.0033, 0.0047, 0.0068),
    *(0.01, 0.015, 0.022, 0.033, 0.047, 0.068),
    *(0.1, 0.15, 0.22, 0.33, 0.47, 0.68),
    *(1.0, 2.2, 4.7, 10.0, 30.0),
)
# Stages may be far shorter than requests.
STAGE_BUCKETS: Final = (0.00001, 0.000022, 0.000047, 0.0001, 0.00022, 0.00047, *BUCKETS[::2])
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
STAGES: Final = ("receive", "queue", "model", "answer")


# Gauges of which each process has a part.
SUMMED: Final = (contract.METRIC_IN_FLIGHT, contract.METRIC_WAITING, contract.METRIC_BODY_BYTES)

_IN_FLIGHT: Final = SUMMED.index(contract.METRIC_IN_FLIGHT)
_CODES: Final = (200, *map(int, Code))
_CODE_AT: Final = {code: index for index, code in enumerate(_CODES)}

Cells: TypeAlias = "list[float] | memoryview[float]"  # of a fixed length


class Histogram:
    """Counts values by upper bounds, inclusive as Prometheus has them.

    Args:
        allot: returns cells that hold zeros; or what was counted in them before, to go on from there.
    """

    __slots__ = ("_bounds", "_cells")

    def __init__(self, bounds: Sequence[float], allot: Callable[[int], Cells]) -> None:
        # The first cell is the sum of all values: no value is at most the first bound.
        self._bounds = (-inf, *bounds)
        self._cells = allot(len(bounds) + 2)

    def observe(self, value: float) -> None:
        """Take in one value."""
        cells = self._cells
        cells[bisect_left(self._bounds, value)] += 1
        cells[0] += value

    @staticmethod
    def read(histograms: Sequence[Histogram]) -> tuple[list[tuple[str, float]], float]:
        """Return how many values of all of them were at most each bound, as the page has it, and the sum of all."""
        total, *counts = map(sum, zip(*(histogram._cells for histogram in histograms), strict=True))
        bounds = [*map(str, map(float, histograms[0]._bounds[1:])), "+Inf"]
        return list(zip(bounds, accumulate(counts), strict=True)), total


def _zeros(count: int) -> Cells:
    return [0] * count


class Block:
    """What one process counts, and its parts of the gauges `SUMMED` as they were when it last told them."""

    __slots__ = ("batches", "codes", "explained", "explaining", "gauges", "seconds", "stages")

    def __init__(self, allot: Callable[[int], Cells] = _zeros) -> None:
        self.codes = allot(len(_CODES))
        self.seconds = Histogram(BUCKETS, allot)
        self.stages = tuple(Histogram(STAGE_BUCKETS, allot) for _ in STAGES)
        self.batches = Histogram(BATCH_BUCKETS, allot)
        self.gauges = allot(len(SUMMED))
        self.explained = allot(len(_CODES))
        self.explaining = Histogram(BUCKETS, allot)

    @property
    def requests(self) -> float:
        """How many requests have ended."""
        return sum(self.codes)

    def forget_gauges(self) -> None:
        """Take note that the process is gone: what it counted stays, what it held does not."""
        for index in range(len(SUMMED)):
            self.gauges[index] = 0


class Metrics:
    """Counts and times inference requests, and tells about the model. Its methods belong to the loop's thread.

    Args:
        own: where this process counts.
        others: what the other processes count that serve the same model.
        processes: tells of CPU and memory where there are others; None: of this process.

    Attributes:
        in_flight: requests that are not answered yet.
    """

    def __init__(
        self,
        readiness: Readiness,
        own: Block | None = None,
        others: Sequence[Block] = (),
        processes: Collector | None = None,
    ) -> None:
        self._own = own = own or Block()
        self.in_flight = 0
        self._blocks = (own, *others)
        self._codes, self._seconds = own.codes, own.seconds
        self._stages, self._batches = own.stages, own.batches
        self._readiness = readiness
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._info: GaugeMetricFamily | None = None
        self._explains = False
        self._registry = CollectorRegistry()
        self._registry.register(_Page(self._families))
        if processes:
            self._registry.register(processes)
        else:
            ProcessCollector(registry=self._registry)
        self.watch(contract.METRIC_IN_FLIGHT, "Inference requests not answered yet.", lambda: self.in_flight)

    @property
    def requests(self) -> float:
        """How many requests have ended in this process."""
        return self._own.requests

    def ended(self, call: Call, now: float) -> None:
        """Take in a call that has ended now, in monotonic seconds."""
        self._codes[_CODE_AT[call.code]] += 1
        self._seconds.observe(now - call.started)
        job = call.job
        if job is not None and job.ended:
            receive, queue, model, answer = self._stages
            receive.observe(call.decoded - call.started)
            queue.observe(job.started - job.arrived)
            model.observe(job.ended - job.started)
            answer.observe(now - job.ended)

    def ran(self, rows: int, seconds: float) -> None:
        """Take in one run of the model."""
        self._batches.observe(rows)

    def explained(self, code: int, seconds: float) -> None:
        """Take in a request for an explanation that has ended so."""
        self._own.explained[_CODE_AT[code]] += 1
        self._own.explaining.observe(seconds)

    def loaded(self, settings: Settings, model: ModelDescription, seconds: float) -> None:
        """Tell what was loaded and how long it took."""
        self._explains = settings.explain
        self._info = GaugeMetricFamily(
            contract.METRIC_MODEL_INFO,
            "The model that is loaded.",
            labels=["model", "version", "revision", "format"],
        )
        self._info.add_metric([settings.model_name, settings.version, settings.revision, model.format], 1)
        self.watch(
            contract.METRIC_LOAD_SECONDS,
            "Seconds it took to get, check, load and warm up the model.",
            lambda: seconds,
        )
        self.watch(
            contract.METRIC_WEIGHT_BYTES,
            "Bytes of the model's parameters and buffers.",
            lambda: model.weight_bytes,
        )

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show a gauge whose value is read when the page is asked for; in `SUMMED`, the sum of all processes."""
        self._gauges.append((name, help_text, read))

    def show(self, families: Callable[[], Iterator[Metric]]) -> None:
        """Show further metrics of this process, which are read when the page is asked for."""
        self._registry.register(_Page(families))

    def publish(self) -> None:
        """Tell the other processes this one's parts of the gauges in `SUMMED`."""
        for name, _, read in self._gauges:
            if name in SUMMED:
                self._own.gauges[SUMMED.index(name)] = read()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _families(self) -> Iterator[Metric]:
        blocks = self._blocks
        yield _by_code(
            contract.METRIC_REQUESTS, "Inference requests by HTTP status.", [block.codes for block in blocks]
        )
        yield HistogramMetricFamily(
            contract.METRIC_REQUEST_SECONDS,
            "Seconds from the headers of an inference request to its answer.",
            *Histogram.read([block.seconds for block in blocks]),
        )
        stages = HistogramMetricFamily(
            contract.METRIC_STAGE_SECONDS,
            "Seconds that answered requests spent being received and decoded, waiting, in the model, and on the way"
            " out.",
            labels=["stage"],
        )
        for index, stage in enumerate(STAGES):
            stages.add_metric([stage], *Histogram.read([block.stages[index] for block in blocks]))
        yield stages
        yield HistogramMetricFamily(
            contract.METRIC_BATCH_ROWS,
            "Rows that the model ran at once.",
            *Histogram.read([block.batches for block in blocks]),
        )
        if self._explains:
            yield _by_code(
                contract.METRIC_EXPLANATIONS,
                "Requests for explanations by HTTP status.",
                [block.explained for block in blocks],
            )
            yield HistogramMetricFamily(
                contract.METRIC_EXPLANATION_SECONDS,
                "Seconds from the headers of a request for an explanation to its answer.",
                *Histogram.read([block.explaining for block in blocks]),
            )
        state = self._readiness.state
        yield _gauge(contract.METRIC_READY, "Whether new requests are welcome.", state.ready)
        phases = GaugeMetricFamily(
            contract.METRIC_PHASE_SECONDS,
            "Seconds that each phase of the process took; of the one it is in, not yet.",
            labels=["phase"],
        )
        for past in self._readiness.history:
            if past.seconds is not None:
                phases.add_metric([past.phase], past.seconds)
        yield phases
        self.publish()
        for name, help_text, read in self._gauges:
            if name in SUMMED:
                index = SUMMED.index(name)
                yield _gauge(name, help_text, sum(block.gauges[index] for block in blocks))
            else:
                yield _gauge(name, help_text, read())
        if self._info:
            yield self._info


class SharedMetrics(Metrics):
    """Metrics of one of several processes: the others see at any time how many requests it has not answered."""

    @property
    def in_flight(self) -> int:
        """See `Metrics`."""
        return int(self._own.gauges[_IN_FLIGHT])

    @in_flight.setter
    def in_flight(self, count: int) -> None:
        self._own.gauges[_IN_FLIGHT] = count


class _Page(Collector):
    """What the library wants to be given: something that yields families."""

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families()


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=float(value))


def _by_code(name: str, help_text: str, counted: Sequence[Cells]) -> Metric:
    """Return a counter of the sums of what all processes have counted, in cells by `_CODES`."""
    family = CounterMetricFamily(name, help_text, labels=["code"])
    for code, counts in zip(_CODES, zip(*counted, strict=True), strict=True):
        if count := sum(counts):
            family.add_metric([str(code)], count)
    return family
