"""The life of the server: up at once, the loader beside it, and an end in which no request is lost."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from pilothouse_runtime.core.states import Phase, Readiness

log = logging.getLogger(__name__)

# Longer than any proxy keeps an idle connection: who closes first must be the client, or requests get lost.
_KEEP_ALIVE: Final = 300  # seconds


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; the empty host means all addresses, of both IP versions where there are two.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=2048)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


class Server(uvicorn.Server):
    """Serves until `stop`, or until it is signalled and has drained.

    Args:
        app: the ASGI application.
        readiness: moved to Draining when the process is told to end.
        drain_delay: seconds for which requests are still taken then.
        drain_timeout: the most seconds after that to wait for what is in flight.
        on_started: called once, when connections are accepted.
    """

    def __init__(
        self,
        app: ASGIApp,
        readiness: Readiness,
        *,
        drain_delay: float,
        drain_timeout: float,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=max(1, round(drain_timeout)),
            )
        )
        self._readiness = readiness
        self._drain_delay = drain_delay
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop accepting, finish what is in flight, and let `serve` return."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM or SIGINT: uvicorn's way is to stop at once, ours to drain first."""
        if self._loop is None:
            self.stop()
        else:
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        before = self._readiness.state
        self._readiness.enter(Phase.DRAINING, "this pod is going away")
        if not before.ready:
            # Nothing was ever sent here, or it is the second signal.
            self.stop()
            return
        log.info("draining: requests are taken for %g s more", self._drain_delay)
        asyncio.get_running_loop().call_later(self._drain_delay, self.stop)
