"""The composition root: puts the parts together and runs them until the process ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import NoReturn

import uvloop

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Settings, read_settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.engine.loader import Loaded, load
from pilothouse_runtime.engine.memory import tidy
from pilothouse_runtime.engine.source import Source
from pilothouse_runtime.process import exit_now, leave_words, server_parser
from pilothouse_runtime.serve import logs
from pilothouse_runtime.serve.http.server import listen
from pilothouse_runtime.serve.lifecycle import Front, Lifecycle
from pilothouse_runtime.serve.metrics import Metrics
from pilothouse_runtime.server import Place, Server

log = logging.getLogger("pilothouse_runtime")


class App:
    """One server and its loader."""

    def __init__(self, settings: Settings, place: Place, readiness: Readiness) -> None:
        self._settings = settings
        self._place = place
        self._readiness = readiness
        self._server = Server(settings, readiness, Metrics(readiness))
        self._lifecycle = Lifecycle(
            readiness, drain_delay=settings.drain_delay, drain_timeout=settings.drain_timeout
        )
        self._grpc_is_open = threading.Event()
        self._failure: LoadError | None = None

    async def run(self) -> None:
        """Serve until the process is told to end.

        Raises:
            LoadError: the model cannot be served.
        """
        await self._lifecycle.run(self._start)
        self._server.flush()
        if self._failure:
            raise self._failure

    async def _start(self) -> list[Front]:
        loop = asyncio.get_running_loop()
        http_port = await self._opened(self._place.port, self._start_http)
        threading.Thread(target=self._load, args=(loop,), name="loader", daemon=True).start()
        # gRPC takes a while to import: meanwhile probes are answered, and the model is loaded.
        front = await loop.run_in_executor(None, import_module, "pilothouse_runtime.serve.grpc")
        grpc = front.GrpcServer(self._server.plane, self._readiness, self._settings, self._server.http)
        grpc_port = await self._opened(
            self._place.grpc_port, lambda: grpc.start(self._place.host, self._place.grpc_port)
        )
        self._grpc_is_open.set()
        log.info("listening", extra={"port": http_port, "grpc_port": grpc_port})
        return [self._server.http, grpc]

    async def _start_http(self) -> int:
        listener = listen(self._place.host, self._place.port)
        await self._server.http.start(listener)
        return int(listener.getsockname()[1])

    async def _opened(self, port: int, start: Callable[[], Awaitable[int]]) -> int:
        try:
            return await start()
        except OSError as error:
            told = f"cannot listen on port {port}: {error.strerror}"
            raise LoadError(FailureReason.INVALID_CONFIGURATION, told, permanent=False) from error

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        start = time.monotonic()
        try:
            loaded = load(self._settings, self._place.source, self._readiness)
            self._grpc_is_open.wait()  # who sees the pod ready may come by either port
        except LoadError as error:
            loop.call_soon_threadsafe(self._fail, error)
        except Exception as error:
            log.exception("loading failed in a way that was not foreseen")
            told = f"{type(error).__name__}: {error}"
            unforeseen = LoadError(FailureReason.MODEL_LOAD_FAILED, told, permanent=False)
            loop.call_soon_threadsafe(self._fail, unforeseen)
        else:
            loop.call_soon_threadsafe(self._loaded, loop, loaded, time.monotonic() - start)

    def _loaded(self, loop: asyncio.AbstractEventLoop, loaded: Loaded, seconds: float) -> None:
        tidy()
        self._server.attach(loaded, seconds, loop)
        log.info("ready", extra={"seconds": round(seconds, 3)})

    def _fail(self, failure: LoadError) -> None:
        if self._readiness.enter(Phase.FAILED, failure.message).phase is Phase.FAILED:
            self._failure = failure
        self._lifecycle.end()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the server; the exit code is 0 after a signal, and 1 with last words when the model cannot be served."""
    # A container's first process gets no default handlers: until the server has its own, a signal ends it at once.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    place = _place(arguments)
    logs.configure("INFO")
    code = 0
    readiness = Readiness()
    try:
        settings = read_settings(os.environ)
        logs.configure(settings.log_level)
        if settings.workers > 1:
            from pilothouse_runtime.workers.supervisor import supervise

            supervise(settings, place, readiness)
        else:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(App(settings, place, readiness).run())
    except LoadError as failure:
        code = 1
        leave_words(failure, place.termination_log, readiness.history)
    except Exception:
        code = 1
        log.exception("the server failed")
    # The loader or a run may be deep in torch: ending through the interpreter would wait for them, or crash.
    exit_now(code)


def _place(arguments: Sequence[str] | None) -> Place:
    parser = server_parser(
        "Serves one model over the Open Inference Protocol v2. Which one, and how, is in the environment"
        f" ({contract.ENV_PREFIX}...); what is given here is for running it outside a pod."
    )
    given = parser.parse_args(arguments)
    source = Source(
        given.cache_dir, given.pvc_mount, fetched_dir=given.model_mount, drift_dir=given.drift_mount
    )
    return Place(given.host, given.port, given.grpc_port, given.termination_log, source)
