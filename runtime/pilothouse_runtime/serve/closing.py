"""Tells clients to leave: by an answer that ends its connection, never in the middle of one.

A Service spreads connections and not requests. A client that kept one for ever would stay with its pod, whatever share
of the requests its revision is to have by now, and with a revision that failed until its pods are gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse_runtime.core.states import Phase, Readiness

# Connections that were opened together do not all end together.
_SPREAD: Final = 0.1
_FEW: Final = 1024

Peer = tuple[str, int]


class Ages:
    """Knows which connections are old, by the client's address and port; a port that is used again may count as old.

    Args:
        limit: seconds for which a connection may be used, give or take a tenth; 0 is for ever.
        clock: monotonic seconds.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._ends: dict[Peer, float] = {}
        self._many = _FEW

    def old(self, peer: Peer) -> bool:
        """Say whether the connection with `peer` has been used for long enough, and forget it if so."""
        if not self._limit:
            return False
        now = self._clock()
        end = self._ends.get(peer)
        if end is None:
            if len(self._ends) >= self._many:
                self._prune(now)
            spread = random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - spreads load, guards nothing
            self._ends[peer] = now + self._limit * spread
            return False
        if now < end:
            return False
        del self._ends[peer]
        return True

    def _prune(self, now: float) -> None:
        """Drop connections that clients have ended by themselves: of them nothing is heard any more."""
        self._ends = {peer: end for peer, end in self._ends.items() if now < end}
        self._many = max(2 * len(self._ends), _FEW)


class EndConnections:
    """ASGI middleware that adds Connection: close to answers, while the pod drains and on connections that are old.

    Without it a client with a kept-alive connection would send its next request into the moment of closing.
    """

    def __init__(self, app: ASGIApp, readiness: Readiness, max_age: float) -> None:
        self._app = app
        self._readiness = readiness
        self._ages = Ages(max_age)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._ends(scope):
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_closing)

    def _ends(self, scope: Scope) -> bool:
        peer = scope.get("client")
        old = peer is not None and self._ages.old((peer[0], peer[1]))
        return old or self._readiness.state.phase is Phase.DRAINING
