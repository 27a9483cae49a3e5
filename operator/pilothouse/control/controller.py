"""Workers that take keys from the queue and have them reconciled."""

from __future__ import annotations

import asyncio
import logging
import random

from pilothouse.control.backoff import Backoff
from pilothouse.control.context import current_key
from pilothouse.control.ports import Telemetry
from pilothouse.control.reconciler import Reconciler, Result
from pilothouse.control.workqueue import WorkQueue
from pilothouse.plan.seen import Key

log = logging.getLogger(__name__)

# Every object is looked at this often (seconds, drawn anew each time) even if no event ever comes.
_RESYNC = (300.0, 600.0)


class Controller:
    """Runs the loop until it is cancelled."""

    def __init__(self, reconciler: Reconciler, telemetry: Telemetry, workers: int = 4) -> None:
        self._reconciler = reconciler
        self._telemetry = telemetry
        self._workers = workers
        self._queue: WorkQueue[Key] = WorkQueue()
        self._backoff: Backoff[Key] = Backoff()
        self._rng = random.Random()  # noqa: S311 - spreads load, guards nothing

    def enqueue(self, key: Key) -> None:
        """Something happened to this key. Call from the loop's own thread."""
        self._queue.add(key)
        self._telemetry.queued(len(self._queue))

    async def run(self) -> None:
        """Work until cancelled; a pass that has begun is finished first."""
        tasks = [asyncio.create_task(self._work(), name=f"worker-{n}") for n in range(self._workers)]
        try:
            # Not gather: it would pass a cancellation on, and each worker must get exactly one.
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._queue.close()

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            self._telemetry.queued(len(self._queue))
            # Shielded: cancelling a worker must not cut a pass between acting and writing the status. (The next
            # pass would mend it, but a clean stop should not need mending.)
            one = asyncio.ensure_future(self._one(key))
            try:
                await asyncio.shield(one)
            except asyncio.CancelledError:
                await one
                raise

    async def _one(self, key: Key) -> None:
        token = current_key.set(str(key))
        try:
            result = await self._reconciler.reconcile(key)
        except Exception:
            log.exception(
                "a pass failed in a way that nobody foresaw; this is a bug in Pilothouse, please report it"
            )
            result = Result("error", failed=True)
            self._telemetry.reconciled("error", 0.0)
        finally:
            current_key.reset(token)
        self._plan_next(key, result)
        self._queue.done(key)

    def _plan_next(self, key: Key, result: Result) -> None:
        if result.failed:
            self._queue.add_after(key, self._backoff.next(key))
            return
        self._backoff.reset(key)
        if result.again is not None:
            self._queue.add_after(key, result.again)
        elif result.outcome != "gone":
            self._queue.add_after(key, self._rng.uniform(*_RESYNC))
