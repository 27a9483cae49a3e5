"""All connections of one port: their limits, their ages, and how they end when the process does."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.serve.http.connection import DIRECT, Connection
from pilothouse_runtime.serve.http.door import Crowd, Door
from pilothouse_runtime.serve.http.exchange import Exchange
from pilothouse_runtime.serve.http.heads import Heads

Handler = Callable[[Exchange], None]
Admit = Callable[[Exchange], Handler]

_SWEEP: Final = 1.0  # seconds
# Connections that were opened together do not all end together.
_SPREAD: Final = 0.1


@dataclass(frozen=True)
class HttpLimits:
    """What one server takes; all times in seconds.

    Attributes:
        max_body: bytes of one body.
        max_bodies: bytes of all bodies in memory together, as far as they are not small.
        max_age: after which an answer ends its connection, give or take a tenth; 0 is for ever.
        idle: for which a connection without requests is kept. Longer than any proxy does: who closes first must be the
            client, or requests get lost.
        receive: without a byte of a request that has begun.
        whole: for all of a request to come.
        send: for which a client may leave an answer unread.
    """

    max_body: int
    max_bodies: int
    max_age: float
    idle: float = 300
    receive: float = 30
    whole: float = 300
    send: float = 60


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; the empty host means all addresses, of both IP versions where there are two.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class HttpServer:
    """Accepts connections and keeps their rules.

    A Service spreads connections and not requests: a client that kept one for ever would stay with its pod, whatever
    share of the requests its revision is to have by now. So answers end connections: of old ones, and of all while the
    process drains; never in the middle of a request.

    Attributes:
        admit: says what handles a request, by its head.
        ending: every answer ends its connection.
        now: loop seconds, of the last look at the clock; close enough for all that is counted in seconds.
        date: the time, as HTTP writes it.
        body_bytes: of bodies in memory, as far as they are not small.
    """

    def __init__(self, admit: Admit, limits: HttpLimits) -> None:
        self.max_body = limits.max_body
        self.admit = admit
        self.ending = False
        self.now = 0.0
        self.date = formatdate(usegmt=True).encode()
        self.body_bytes = 0
        self.heads = Heads(min(DIRECT, limits.max_body + 1))
        self._limits = limits
        self._connections: dict[Connection, float] = {}  # and the loop seconds when each is old
        self._server: asyncio.Server | Door | None = None
        self._crowd: Crowd | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    async def start(self, listener: socket.socket, crowd: Crowd | None = None) -> None:
        """Begin to accept connections; with a `crowd`, other processes do so too."""
        self._loop = loop = asyncio.get_running_loop()
        self._crowd = crowd

        def make() -> Connection:
            return Connection(self, loop)

        if crowd is None:
            self._server = await loop.create_server(make, sock=listener, backlog=2048)
        else:
            self._server = Door(listener, make, crowd, self._connections.__len__)
        self._sweep()

    def drain(self) -> None:
        """Let every answer end its connection from now on."""
        self.ending = True

    async def stop(self, patience: float) -> None:
        """Accept no connection any more, close those that are idle, and wait so many seconds for the others."""
        assert self._server is not None  # noqa: S101 - it was started
        self._server.close()
        if isinstance(self._server, Door):
            await self._server.wait_closed()
        deadline = self._loop.time() + patience
        while self._connections and self._loop.time() < deadline:
            for connection in list(self._connections):
                if connection.idle:
                    connection.close()
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._sweeper:
            self._sweeper.cancel()

    # -- what a connection asks

    def opened(self, connection: Connection) -> None:
        """See `Host`."""
        spread = random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 - spreads load, guards nothing
        age = self._limits.max_age
        self._connections[connection] = connection.began + age * spread if age else float("inf")

    def closed(self, connection: Connection) -> None:
        """See `Host`."""
        self._connections.pop(connection, None)
        if self._crowd is not None:
            self._crowd.tell(len(self._connections))

    def charge(self, size: int) -> None:
        """See `Host`."""
        if self.body_bytes and self.body_bytes + size > self._limits.max_bodies:
            raise RequestError(
                Code.RESOURCE_EXHAUSTED,
                f"{self.body_bytes:,} bytes of other requests are in memory, and {self._limits.max_bodies:,} are the"
                " most; send fewer at once, or add replicas",
                retry_after=1,
            )
        self.body_bytes += size

    def release(self, size: int) -> None:
        """See `Host`."""
        self.body_bytes -= size

    def _sweep(self) -> None:
        """Look after connections on which nothing happens."""
        self.date = formatdate(usegmt=True).encode()
        self.now = now = self._loop.time()
        self.heads.forget_if_full()
        limits = self._limits
        for connection, end in list(self._connections.items()):
            connection.old = now >= end
            quiet = now - connection.last_read
            if connection.blocked:
                if now - connection.last_write > limits.send:
                    connection.abort()
            elif connection.receiving:
                if quiet > limits.receive or now - connection.request_began > limits.whole:
                    connection.time_out()
            elif connection.idle and quiet > limits.idle:
                connection.close()
        self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
