"""The composition root: puts the parts together and runs them until the process ends."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import uvloop

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.predictor import Predictor
from pilothouse_runtime.core.settings import Settings, read_settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.engine.loader import load
from pilothouse_runtime.engine.source import Source
from pilothouse_runtime.process import add_places, exit_now, leave_words
from pilothouse_runtime.serve import logs
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.lifecycle import Server, listen
from pilothouse_runtime.serve.metrics import Metrics
from pilothouse_runtime.serve.rest import build_app

log = logging.getLogger("pilothouse_runtime")


@dataclass(frozen=True)
class Place:
    """Where this process runs: what differs between a pod and a developer's machine."""

    host: str
    port: int
    termination_log: Path
    source: Source


class App:
    """One server and its loader."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self._readiness = Readiness()
        self._metrics = Metrics(self._readiness)
        self._plane = DataPlane(settings, self._readiness)
        self._server = Server(
            build_app(self._plane, self._readiness, self._metrics, settings),
            self._readiness,
            drain_delay=settings.drain_delay,
            drain_timeout=settings.drain_timeout,
            on_started=self._start_loading,
        )
        self._failure: LoadError | None = None

    async def run(self) -> None:
        """Serve until the process is told to end.

        Raises:
            LoadError: the model cannot be served.
        """
        try:
            listener = listen(self._place.host, self._place.port)
        except OSError as error:
            told = f"cannot listen on port {self._place.port}: {error.strerror}"
            raise LoadError(FailureReason.INVALID_CONFIGURATION, told, permanent=False) from error
        log.info("listening", extra={"port": listener.getsockname()[1]})
        await self._server.serve(sockets=[listener])
        if self._failure:
            raise self._failure

    def _start_loading(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._load, args=(loop,), name="loader", daemon=True).start()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        start = time.monotonic()
        try:
            predictor = load(self._settings, self._place.source, self._readiness)
        except LoadError as error:
            loop.call_soon_threadsafe(self._fail, error)
        except Exception as error:
            log.exception("loading failed in a way that was not foreseen")
            told = f"{type(error).__name__}: {error}"
            unforeseen = LoadError(FailureReason.MODEL_LOAD_FAILED, told, permanent=False)
            loop.call_soon_threadsafe(self._fail, unforeseen)
        else:
            loop.call_soon_threadsafe(self._loaded, predictor, time.monotonic() - start)

    def _loaded(self, predictor: Predictor, seconds: float) -> None:
        self._metrics.loaded(self._settings, predictor.description, seconds)
        self._plane.attach(predictor)
        log.info("ready", extra={"seconds": round(seconds, 3)})

    def _fail(self, failure: LoadError) -> None:
        if self._readiness.enter(Phase.FAILED, failure.message).phase is Phase.FAILED:
            self._failure = failure
        self._server.stop()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the server; the exit code is 0 after a signal, and 1 with last words when the model cannot be served."""
    # A container's first process gets no default handlers: until the server has its own, a signal ends it at once.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    place = _place(arguments)
    logs.configure("INFO")
    code = 0
    try:
        settings = read_settings(os.environ)
        logs.configure(settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(App(settings, place).run())
    except LoadError as failure:
        code = 1
        leave_words(failure, place.termination_log)
    except Exception:
        code = 1
        log.exception("the server failed")
    # The loader or a run may be deep in torch: ending through the interpreter would wait for them, or crash.
    exit_now(code)


def _place(arguments: Sequence[str] | None) -> Place:
    parser = argparse.ArgumentParser(
        prog="pilothouse-runtime",
        description="Serves one model over the Open Inference Protocol v2. Which one, and how, is in the environment"
        f" ({contract.ENV_PREFIX}...); what is given here is for running it outside a pod.",
    )
    parser.add_argument("--host", default="", help="address to listen on (all)")
    parser.add_argument("--port", type=int, default=contract.HTTP_PORT, help="0 takes a free one and logs it")
    add_places(parser)
    given = parser.parse_args(arguments)
    return Place(given.host, given.port, given.termination_log, Source(given.cache_dir, given.pvc_mount))
