"""One server process from its first connection to its last: signals, draining, the end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol

from pilothouse_runtime.core.states import Phase, Readiness

log = logging.getLogger(__name__)


class Front(Protocol):
    """A protocol's server."""

    def drain(self) -> None:
        """Tell clients to leave, with each answer."""

    async def stop(self, patience: float) -> None:
        """Take no new requests, and wait so many seconds for those in flight."""


class Lifecycle:
    """Keeps the process serving until it is told to end, and ends it so that no accepted request is lost.

    Args:
        readiness: moved to Draining when the process is told to end.
        drain_delay: seconds for which requests are still taken then, while endpoints follow.
        drain_timeout: the most seconds after that to wait for what is in flight.
    """

    def __init__(self, readiness: Readiness, *, drain_delay: float, drain_timeout: float) -> None:
        self._readiness = readiness
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._over: asyncio.Event
        self._fronts: list[Front] = []

    async def run(self, start: Callable[[], Awaitable[list[Front]]]) -> None:
        """Start the fronts, and return when they have ended after a signal or after `end`."""
        self._over = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        self._fronts = await start()
        await self._over.wait()
        await asyncio.gather(*(front.stop(self._drain_timeout) for front in self._fronts))

    def end(self) -> None:
        """Stop accepting, finish what is in flight, and let `run` return."""
        self._over.set()

    def _signalled(self) -> None:
        before = self._readiness.state
        self._readiness.enter(Phase.DRAINING, "this pod is going away")
        if not before.ready:
            # Nothing was ever sent here, or it is the second signal.
            self.end()
            return
        for front in self._fronts:
            front.drain()
        log.info("draining: requests are taken for %g s more", self._drain_delay)
        asyncio.get_running_loop().call_later(self._drain_delay, self.end)
