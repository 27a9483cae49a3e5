"""Keeps some requests and their answers in a file, as JSON lines: by chance, up to a cap, and never at the cost of one.

In the event loop a request that is chosen is copied, if it is small, and put into a queue; a thread writes. What the
queue has no room for, what is too large and what cannot be written is dropped, and counted.
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
from pathlib import Path
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
from pilothouse_runtime.serve.watching import Result, Seen

log = logging.getLogger(__name__)

_QUEUE: Final = 64  # samples that wait to be written
_OPEN: Final = 64  # requests that are not answered yet
_MOST_BYTES: Final = 256 * 1024  # of the tensors of one sample
_PATIENCE: Final = 5.0  # seconds for what waits when the process ends


@dataclass
class _Sample:
    inputs: list[Tensor]
    outputs: list[Tensor] | None = None
    told: dict[str, Any] | None = None


class Sampler:
    """A watcher (`serve.watching.Watcher`) and an observer of calls; both in the thread of the event loop.

    Args:
        name: of the file, without its ending.
        chance: returns numbers evenly spread from 0 to 1.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: Sampling,
        name: str,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._path = Path(settings.directory, f"{name}.jsonl")
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

    def flush(self) -> None:
        """Write what waits; at the end of the process."""
        self._queue.put(None, timeout=_PATIENCE)
        self._writer.join(_PATIENCE)

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
        while (sample := self._queue.get()) is not None:
            try:
                self._write(orjson.dumps(_line(sample), option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
            except (OSError, RequestError) as error:
                self._dropped += 1
                if not self._failing:
                    log.error("samples cannot be written to %s: %s", self._path, error)  # noqa: TRY400 - no bug
                self._failing = True
            else:
                self._written += 1
                self._failing = False

    def _write(self, line: bytes) -> None:
        """Append a line. The file and the one before it are half of what is allowed each."""
        half = self._settings.max_bytes // 2
        if len(line) > half:
            raise OSError(f"a line of {len(line)} bytes is more than half of the {2 * half} that are allowed")
        if self._path.exists() and self._path.stat().st_size + len(line) > half:
            self._path.replace(self._path.with_suffix(".1.jsonl"))
        with self._path.open("ab") as file:
            file.write(line)


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.array.nbytes for tensor in tensors)


def _copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.array.copy()) for tensor in tensors]


def _line(sample: _Sample) -> dict[str, Any]:
    line = dict(sample.told or {})
    line["inputs"] = [_told(tensor) for tensor in sample.inputs]
    if sample.outputs is not None:
        line["outputs"] = [_told(tensor) for tensor in sample.outputs]
    return line


def _told(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.array.shape,
        "data": to_json(tensor.name, tensor.array),
    }
