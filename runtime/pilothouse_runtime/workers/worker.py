"""One worker: serves a model that was loaded before it was forked, on ports that it shares with the others."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import Final, NoReturn

import uvloop

from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.engine.forked import begin_forked
from pilothouse_runtime.engine.loader import Loaded
from pilothouse_runtime.process import exit_now
from pilothouse_runtime.serve.lifecycle import Front, Lifecycle
from pilothouse_runtime.server import Place, Server
from pilothouse_runtime.workers.board import Board, WorkersCrowd, index_of
from pilothouse_runtime.workers.reports import ToldReadiness

log = logging.getLogger(__name__)

_PUBLISH: Final = 1.0  # seconds between two times that others are told gauges, and that it lives


@dataclass(frozen=True)
class Inheritance:
    """What a worker needs of what was there before it.

    Attributes:
        place: its gRPC port is the one that was reserved.
        listener: takes HTTP connections, for whichever worker comes first.
        threads: to run the model with.
        seconds: that it took to load.
    """

    settings: Settings
    place: Place
    listener: socket.socket
    readiness: ToldReadiness
    loaded: Loaded
    threads: int
    seconds: float


def work(heritage: Inheritance, board: Board, number: int) -> NoReturn:
    """Serve until told to end, in a process that was just forked and in which SIGTERM is blocked."""
    code = 0
    try:
        begin_forked(heritage.threads)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_Worker(heritage, board, number).run())
    except Exception:
        code = 1
        log.exception("worker %d failed", number)
    exit_now(code)


class _Worker:
    def __init__(self, heritage: Inheritance, board: Board, number: int) -> None:
        settings = heritage.settings
        self._heritage = heritage
        self._board = board
        self._number = number
        self._index = index_of(number)
        self._server = Server(settings, heritage.readiness, board.metrics(self._index, heritage.readiness))
        self._lifecycle = Lifecycle(
            heritage.readiness, drain_delay=settings.drain_delay, drain_timeout=settings.drain_timeout
        )

    async def run(self) -> None:
        await self._lifecycle.run(self._start)
        self._server.flush()

    async def _start(self) -> list[Front]:
        from pilothouse_runtime.serve.grpc import GrpcServer  # the loader has imported it

        heritage, server = self._heritage, self._server
        loop = asyncio.get_running_loop()
        self._board.pids[self._index] = os.getpid()
        server.attach(heritage.loaded, heritage.seconds, loop)
        grpc = GrpcServer(server.plane, heritage.readiness, heritage.settings, server.http, shares_port=True)
        await grpc.start(heritage.place.host, heritage.place.grpc_port)
        await server.http.start(heritage.listener, WorkersCrowd(self._board, self._index))
        self._publish(loop)
        log.info("worker %d serves, as process %d", self._number, os.getpid())
        # The loop handles it from now on; one that came before is handled now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return [server.http, grpc]

    def _publish(self, loop: asyncio.AbstractEventLoop) -> None:
        self._board.beats[self._index] += 1
        self._server.metrics.publish()
        loop.call_later(_PUBLISH, self._publish, loop)
