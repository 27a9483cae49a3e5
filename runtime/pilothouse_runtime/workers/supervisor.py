"""The container's first process: it holds the port until there are workers, and outlives all others.

It imports no torch and runs no model, so nothing that a model does can end it before it has said why.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvloop

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.serve.http.server import listen
from pilothouse_runtime.server import Place, Server
from pilothouse_runtime.workers.board import LOADER, SUPERVISOR, Board
from pilothouse_runtime.workers.loader import Ties, run_loader
from pilothouse_runtime.workers.reports import read_failure
from pilothouse_runtime.workers.unix import how_it_ended, reserve

log = logging.getLogger(__name__)


def supervise(settings: Settings, place: Place, readiness: Readiness) -> None:
    """Serve with several processes until told to end. Called before this process has threads or an event loop.

    Raises:
        LoadError: the model cannot be served.
    """
    listener = _opened(place.port, lambda: listen(place.host, place.port))
    holder = _opened(place.grpc_port, lambda: reserve(place.host, place.grpc_port))
    place = replace(place, port=listener.getsockname()[1], grpc_port=holder.getsockname()[1])
    board = Board(settings.workers)
    board.pids[SUPERVISOR] = supervisor = os.getpid()
    reports, told = os.pipe()
    waits, go = os.pipe()
    gc.freeze()  # collections would write to pages that both processes share from here on
    loader = os.fork()
    if not loader:
        os.close(reports)
        os.close(go)
        holder.close()
        run_loader(settings, place, listener, board, Ties(supervisor, told, waits))
    os.close(told)
    os.close(waits)
    board.pids[LOADER] = loader
    server = Server(settings, readiness, board.metrics(SUPERVISOR, readiness))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Supervisor(settings, place, readiness, server, loader, go).run(listener, reports))
    holder.close()


def _opened(port: int, make: Callable[[], socket.socket]) -> socket.socket:
    try:
        return make()
    except OSError as error:
        told = f"cannot listen on port {port}: {error.strerror}"
        raise LoadError(FailureReason.INVALID_CONFIGURATION, told, permanent=False) from error


class _Supervisor:
    def __init__(
        self, settings: Settings, place: Place, readiness: Readiness, server: Server, loader: int, go: int
    ) -> None:
        self._settings = settings
        self._place = place
        self._readiness = readiness
        self._server = server
        self._loader = loader
        self._go = go
        self._handed_over: asyncio.Task[None] | None = (
            None  # to workers; done when the last client has left us
        )
        self._ending = False
        self._failure: LoadError | None = None

    async def run(self, listener: socket.socket, reports: int) -> None:
        """Return when all other processes have ended. Raises as `supervise`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        await self._server.http.start(listener)
        log.info("listening", extra={"port": self._place.port, "grpc_port": self._place.grpc_port})
        reader = asyncio.StreamReader()
        with os.fdopen(reports, "rb", 0) as pipe:
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
            async for line in reader:
                self._take(json.loads(line))
        # It has closed the pipe, so it has ended: this does not wait.
        _, status = os.waitpid(self._loader, 0)  # noqa: ASYNC222
        await (self._handed_over or self._leave())
        self._server.flush()
        if self._failure is None and status and not (self._ending and self._handed_over is None):
            told = f"the process that loads the model {how_it_ended(status)}; is memory enough?"
            self._failure = LoadError(FailureReason.MODEL_LOAD_FAILED, told, permanent=False)
        if self._failure:
            raise self._failure

    def _take(self, report: dict[str, Any]) -> None:
        if "phase" in report:
            self._readiness.enter(Phase(report["phase"]), report["message"])
        elif "loaded" in report:
            self._hand_over()
        else:
            self._failure = failure = read_failure(report)
            self._readiness.enter(Phase.FAILED, failure.message)

    def _hand_over(self) -> None:
        """Let workers take the connections: who comes while they start waits for them, and for no answer of ours."""
        self._handed_over = asyncio.get_running_loop().create_task(self._leave())
        asyncio.get_running_loop().call_soon(os.write, self._go, b"!")

    async def _leave(self) -> None:
        """Accept nothing any more, and answer what has come."""
        http = self._server.http
        http.drain()
        await http.stop(self._settings.drain_timeout)
        self._server.metrics.publish()

    def _signalled(self) -> None:
        self._readiness.enter(Phase.DRAINING, "this pod is going away")
        self._ending = True
        # Before there are workers nothing was ever sent here. They drain as one process alone does.
        os.kill(self._loader, signal.SIGTERM if self._handed_over else signal.SIGKILL)
