"""Explains one request at a time in a thread of its own, beside the predictions and behind them."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.explaining import Explanation, Options
from pilothouse_runtime.core.tensors import Tensor
from pilothouse_runtime.engine.threads import use

if TYPE_CHECKING:
    from pilothouse_runtime.engine.model import LoadedModel

_WAITING: Final = 4  # requests that may wait for the one that is explained
_MOST_SECONDS: Final = 60.0  # that one may take, its wait included
_NICENESS: Final = 10  # the kernel gives a CPU that is short to predictions first


class Explainer:
    """Explanations of a loaded model; `explain` belongs to the thread of the event loop.

    Args:
        batch_rows: the most rows that the model runs at once.
        threads: of torch, for the runs that explain.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        model: LoadedModel,
        batch_rows: int,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._batch_rows = batch_rows
        self._clock = clock
        self._taken = threading.Semaphore(1 + _WAITING)
        self._seconds = 1.0  # that the last one took
        self._pool = ThreadPoolExecutor(1, "explain", initializer=_step_back, initargs=(threads,))

    async def explain(
        self, inputs: Sequence[Tensor], options: Options, deadline: float | None = None
    ) -> Explanation:
        """Return the explanation of a request whose inputs fit the model's signature, and are in its order.

        One whose task is cancelled, or whose deadline (monotonic seconds) passes, ends before the model's next run.

        Raises:
            RequestError: too many wait, the deadline passes, or `attributions.attribute` says why not.
        """
        if not self._taken.acquire(blocking=False):
            told = f"one explanation is made at a time, and {_WAITING} wait already"
            raise RequestError(Code.RESOURCE_EXHAUSTED, told, retry_after=max(1, math.ceil(self._seconds)))
        now = self._clock()
        end = now + _MOST_SECONDS if deadline is None else min(deadline, now + _MOST_SECONDS)
        gone = threading.Event()

        def check() -> None:
            if gone.is_set() or self._clock() >= end:
                raise _too_late()

        future: Future[Explanation] = self._pool.submit(self._work, inputs, options, check)
        future.add_done_callback(lambda _: self._taken.release())
        try:
            async with asyncio.timeout(end - now):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise _too_late() from None
        finally:
            gone.set()

    def _work(self, inputs: Sequence[Tensor], options: Options, check: Callable[[], None]) -> Explanation:
        from pilothouse_runtime.engine.attributions import attribute

        start = self._clock()
        explanation = attribute(self._model, inputs, options, self._batch_rows, check)
        self._seconds = self._clock() - start
        return explanation


def _step_back(threads: int) -> None:
    use(threads)
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # on Linux, of this thread alone


def _too_late() -> RequestError:
    return RequestError(
        Code.DEADLINE_EXCEEDED,
        f"the explanation was not done in time (at most {_MOST_SECONDS:g} s): ask for fewer rows or steps, or for"
        " larger windows and strides",
    )
