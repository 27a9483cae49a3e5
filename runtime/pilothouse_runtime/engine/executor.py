"""Runs requests on the model one after another, in one thread, behind a queue that can be full.

A batcher belongs between the data plane and this: it is a `core.predictor.Predictor` too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import ModelDescription
from pilothouse_runtime.core.tensors import Tensor
from pilothouse_runtime.engine.model import LoadedModel

log = logging.getLogger(__name__)

MAX_WAITING = 128


class Executor:
    """A predictor with one thread: torch spreads one request over all CPUs by itself."""

    def __init__(self, model: LoadedModel, max_waiting: int = MAX_WAITING) -> None:
        self._model = model
        self._max_waiting = max_waiting
        self._pending = 0  # touched by the event loop's thread only
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self.description = ModelDescription(model.format, model.platform, model.signature)

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `Predictor`."""
        if self._pending > self._max_waiting:
            raise RequestError(
                Code.RESOURCE_EXHAUSTED,
                f"{self._max_waiting} requests are waiting already; send fewer at once, or add replicas",
                retry_after=1,
            )
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._model.run, inputs)
        except RequestError as error:
            if error.code is Code.INTERNAL:
                log.exception("a request failed in the model")
            raise
        finally:
            self._pending -= 1
