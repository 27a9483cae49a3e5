"""Runs what waits for the model: quick models in the event loop itself, others in threads of their own.

Handing work to a thread and back costs some tenths of a millisecond; a model that takes less is run where its requests
were read: what became readable in one turn of the loop is the next batch. Which way is taken follows from how long
runs took lately. `core.batching` decides what runs together.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from pilothouse_runtime.core.batching import Queue, expired
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Job, ModelDescription
from pilothouse_runtime.core.tensors import Tensor
from pilothouse_runtime.engine.stacking import split, stack
from pilothouse_runtime.engine.threads import Threads, use

log = logging.getLogger(__name__)

# A run that is expected to take at most so many seconds is not worth a thread: probes and other clients wait as long.
_QUICK: Final = 0.001
_ONE: Final = Threads()

Result = list[Tensor] | RequestError


class Runs(Protocol):
    """A loaded model, as far as it matters here."""

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs; raises RequestError. Called by one or several threads."""


class Batcher:
    """A predictor (`core.predictor.Predictor`) around a model.

    Its methods belong to the thread of the event loop.

    Args:
        waiting: the policy, and the requests that wait.
        threads: how many runs there may be at a time, and the threads of each.
        ran: is told of each run: its rows and its seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        model: Runs,
        description: ModelDescription,
        waiting: Queue,
        loop: asyncio.AbstractEventLoop,
        *,
        threads: Threads = _ONE,
        ran: Callable[[int, float], None] = lambda rows, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description = description
        self._model = model
        self._queue = waiting
        self._loop = loop
        self._ran = ran
        self._clock = clock
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._next_deadline = math.inf  # for which the watcher wakes
        self._free = threads.runners
        self._threads = threads
        self._work: queue.SimpleQueue[tuple[list[Job], int]] = queue.SimpleQueue()
        for number in range(threads.runners):
            threading.Thread(target=self._serve, name=f"predict-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return len(self._queue)

    def submit(self, job: Job) -> None:
        """See `Predictor`."""
        self._queue.add(job, self._clock())
        if job.deadline is not None and job.deadline < self._next_deadline:
            self._watch(job.deadline)
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def cancel(self, job: Job) -> None:
        """See `Predictor`."""
        self._queue.drop(job)

    def _turn(self) -> None:
        """Run what waits, as far as there is somebody free to run it."""
        self._turn_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and len(self._queue):
            now = self._clock()
            if self._next_deadline <= now:  # the watcher may come late to a busy loop
                self._expire()
                continue
            if patience := self._queue.patience(now):
                self._timer = self._loop.call_later(patience, self._turn)
                return
            alone = self._free == self._threads.runners
            if alone and self._queue.run_seconds <= _QUICK:
                jobs = self._queue.take()
                self._finish(jobs, *run_jobs(self._model, jobs, self._clock))
                if len(self._queue):  # let the loop read and write before the next run
                    self._turn_is_due = True
                    self._loop.call_soon(self._turn)
                return
            self._free -= 1
            jobs = self._queue.take()
            alone = alone and not len(self._queue)
            self._work.put((jobs, self._threads.alone if alone else self._threads.beside))

    def _watch(self, deadline: float) -> None:
        """Wake for the next deadline of all that wait: a timer for each would be kept long after its answer."""
        if self._watcher is not None:
            self._watcher.cancel()
        self._next_deadline = deadline
        self._watcher = self._loop.call_at(self._loop.time() + deadline - self._clock(), self._expire)

    def _expire(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        self._next_deadline = math.inf
        for job in self._queue.overdue(self._clock()):
            self._reply(job, expired())
        following = self._queue.next_deadline()
        if following is not None:
            self._watch(following)

    def _serve(self) -> None:
        """Run batches, in a thread, until the process ends."""
        while True:
            jobs, count = self._work.get()
            use(count)
            done = run_jobs(self._model, jobs, self._clock)
            try:
                self._loop.call_soon_threadsafe(self._finish_threaded, jobs, *done)
            except RuntimeError:
                return  # the loop is closed: the process ends

    def _finish_threaded(self, jobs: list[Job], results: list[Result], started: float, ended: float) -> None:
        self._free += 1
        # The next run begins before the answers to this one are written.
        self._queue.ran(jobs, ended - started, ended)
        self._turn()
        self._tell(jobs, results, started, ended)

    def _finish(self, jobs: list[Job], results: list[Result], started: float, ended: float) -> None:
        self._queue.ran(jobs, ended - started, ended)
        self._tell(jobs, results, started, ended)

    def _tell(self, jobs: list[Job], results: list[Result], started: float, ended: float) -> None:
        rows = sum([job.rows for job in jobs])
        self._ran(rows, ended - started)
        for job, result in zip(jobs, results, strict=True):
            job.started = started
            job.ended = ended
            job.batch = rows
            if not job.cancelled:
                self._reply(job, result)

    def _reply(self, job: Job, result: Any) -> None:
        try:
            job.reply(result)
        except Exception:
            log.exception("an answer could not be given")
        job.reply = _replied


def _replied(result: Result) -> None:
    """Stand for the reply of a job that has had it: the reply leads back to the job, and cycles cost collections."""


def run_jobs(model: Runs, jobs: list[Job], clock: Callable[[], float]) -> tuple[list[Result], float, float]:
    """Return a result for each job, and the monotonic seconds when their run began and ended."""
    started = clock()
    results = _results(model, jobs)
    return results, started, clock()


def _results(model: Runs, jobs: list[Job]) -> list[Result]:
    """Run jobs together; where that fails, their halves, so that a request which is at fault fails alone."""
    try:
        if len(jobs) == 1:
            return [model.run(jobs[0].inputs)]
        return [*split(model.run(stack([job.inputs for job in jobs])), [job.rows for job in jobs])]
    except RequestError as error:
        if len(jobs) == 1:
            if error.code is Code.INTERNAL:
                log.exception("a request failed in the model")
            return [error]
    except Exception as error:
        log.exception("running the model failed in a way that was not foreseen")
        if len(jobs) == 1:
            return [RequestError(Code.INTERNAL, f"the model failed: {type(error).__name__}: {error}")]
    half = len(jobs) // 2
    return _results(model, jobs[:half]) + _results(model, jobs[half:])
