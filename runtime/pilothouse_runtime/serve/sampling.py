"""Keeps some requests and their answers, as JSON lines: by chance, up to a cap, and never at the cost of one.

In the event loop a request that is chosen is copied, if it is small, and put into a queue; a thread hands its line to
the target, which writes. What the queue has no room for, what is too large and what cannot be written is dropped, and
counted.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from pilothouse_runtime import contract
from pilothouse_runtime.codecs.elements import to_json
from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.settings import Sampling
from pilothouse_runtime.core.tensors import Tensor
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.sample_files import LostError, Target
from pilothouse_runtime.serve.watching import Result, Seen

log = logging.getLogger(__name__)

_QUEUE: Final = 64  # samples that wait to be written
_OPEN: Final = 64  # requests that are not answered yet
_MOST_BYTES: Final = 256 * 1024  # of the tensors of one sample


@dataclass
class _Sample:
    inputs: list[Tensor]
    outputs: list[Tensor] | None = None
    told: dict[str, Any] | None = None


class Sampler:
    """A watcher (`serve.watching.Watcher`) and an observer of calls; both in the thread of the event loop.

    Args:
        target: where they are kept; from now on for the sampler's thread alone.
        chance: returns numbers evenly spread from 0 to 1.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Sampling,
        target: Target,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._target = target
        self._chance = chance
        self._clock = clock
        self._minute = clock()
        self._taken = 0  # in this minute
        self._open: dict[int, _Sample] = {}  # by the identity of their jobs
        self._queue: queue.Queue[_Sample | None] = queue.Queue(_QUEUE)
        self._written = 0
        self._dropped = 0
        self._failing = False
        self._writer = threading.Thread(target=self._write_all, name="samples", daemon=True)
        self._writer.start()

    def begin(self, job: Job) -> Seen | None:
        """See `Watcher`."""
        if self._chance() >= self._settings.rate or not self._allowed():
            return None
        if len(self._open) >= _OPEN or _size(job.inputs) > _MOST_BYTES:
            self._dropped += 1
            return None
        # Before the run: a model may write to its inputs.
        sample = self._open[id(job)] = _Sample(_copied(job.inputs))

        def seen(result: Result) -> None:
            if not isinstance(result, RequestError) and _size(result) <= _MOST_BYTES:
                sample.outputs = _copied(result)

        return seen

    def observe(self, call: Call, now: float) -> None:
        """Hand over the sample of a call that ended at `now`, if it is one."""
        sample = self._open.pop(id(call.job), None) if self._open else None
        if sample is None:
            return
        ended = datetime.fromtimestamp(time.time(), UTC)
        sample.told = {"time": ended.isoformat(timespec="milliseconds"), "status": call.code}
        sample.told |= {"id": call.request_id} if call.request_id else {}
        sample.told |= {"error": call.error} if call.error else {}
        sample.told["seconds"] = round(now - call.started, 6)
        try:
            self._queue.put_nowait(sample)
        except queue.Full:
            self._dropped += 1

    def flush(self, patience: float) -> None:
        """Write what waits, at the end of the process; what is not written in so many seconds is lost."""
        until = time.monotonic() + patience
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            pass
        else:
            self._writer.join(max(until - time.monotonic(), 0))
        if self._writer.is_alive():
            log.error("samples were not all written to %s within %.0f s", self._target, patience)

    def families(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        told = "Requests that were kept with their answers, or chosen and dropped."
        samples = CounterMetricFamily(contract.METRIC_SAMPLES, told, labels=["outcome"])
        samples.add_metric(["written"], self._written)
        samples.add_metric(["dropped"], self._dropped)
        yield samples

    def _allowed(self) -> bool:
        now = self._clock()
        if now - self._minute >= 60:
            self._minute, self._taken = now, 0
        self._taken += 1
        return self._taken <= self._settings.per_minute

    def _write_all(self) -> None:
        while True:
            try:
                sample = self._queue.get(timeout=self._target.wait())
            except queue.Empty:
                self._count(self._target.flush)
                continue
            if sample is None:
                break
            self._count(partial(self._add, sample))
        self._count(self._target.flush)

    def _add(self, sample: _Sample) -> int:
        return self._target.add(_line(sample))

    def _count(self, write: Callable[[], int]) -> None:
        try:
            written = write()
        except (LostError, RequestError) as error:
            self._dropped += error.lines if isinstance(error, LostError) else 1
            if not self._failing:
                log.error("samples cannot be written to %s: %s", self._target, error)  # noqa: TRY400 - no bug
            self._failing = True
        else:
            self._written += written
            self._failing = self._failing and not written


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.array.nbytes for tensor in tensors)


def _copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.array.copy()) for tensor in tensors]


def _line(sample: _Sample) -> bytes:
    line = dict(sample.told or {})
    line["inputs"] = [_told(tensor) for tensor in sample.inputs]
    if sample.outputs is not None:
        line["outputs"] = [_told(tensor) for tensor in sample.outputs]
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def _told(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.array.shape,
        "data": to_json(tensor.name, tensor.array),
    }
