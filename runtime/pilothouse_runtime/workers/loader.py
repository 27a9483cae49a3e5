"""The process that gets the model, and then keeps as many workers alive as are wanted.

It has one thread and no event loop, so that it can fork at any time. All its signals are blocked and taken one by one.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from pilothouse_runtime.contract import ENV_WORKERS, FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Settings, bad_setting
from pilothouse_runtime.core.states import Phase
from pilothouse_runtime.engine.forked import end_with_parent, stay_single, threads_for
from pilothouse_runtime.engine.loader import load
from pilothouse_runtime.engine.memory import tidy
from pilothouse_runtime.process import exit_now
from pilothouse_runtime.server import Place
from pilothouse_runtime.workers.board import LOADER, Board, index_of
from pilothouse_runtime.workers.patience import Patience, Pulse
from pilothouse_runtime.workers.reports import Reporter, ToldReadiness
from pilothouse_runtime.workers.unix import how_it_ended
from pilothouse_runtime.workers.worker import Inheritance, work

log = logging.getLogger(__name__)

_LOOK: Final = 5.0  # seconds between two looks at whether workers stir
# SIGINT comes from a terminal to all processes at once: the supervisor passes on what it makes of it.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True)
class Ties:
    """How the loader and the supervisor are connected.

    Attributes:
        reports: the end of a pipe that the loader writes to.
        go: the end of a pipe from which it reads a byte when workers may start.
    """

    supervisor: int
    reports: int
    go: int


def run_loader(
    settings: Settings, place: Place, listener: socket.socket, board: Board, ties: Ties
) -> NoReturn:
    """Load the model and look after workers until told to end, in a process that was just forked."""
    code = 1
    reporter = Reporter(ties.reports)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        end_with_parent(ties.supervisor)
        board.pids[LOADER] = os.getpid()
        heritage = _prepare(settings, place, listener, ToldReadiness(reporter))
        reporter.loaded()
        if os.read(ties.go, 1):
            heritage.readiness.enter(Phase.READY)
            log.info("ready", extra={"seconds": round(heritage.seconds, 3)})
            _Nursery(heritage, board, ties, reporter).run()
            code = 0
    except LoadError as failure:
        reporter.failed(failure)
    except Exception as error:
        log.exception("loading failed in a way that was not foreseen")
        told = f"{type(error).__name__}: {error}"
        reporter.failed(LoadError(FailureReason.MODEL_LOAD_FAILED, told, permanent=False))
    exit_now(code)


def _prepare(
    settings: Settings, place: Place, listener: socket.socket, readiness: ToldReadiness
) -> Inheritance:
    threads = threads_for(settings.workers)
    stay_single()
    start = time.monotonic()
    loaded = load(settings, place.source, readiness)
    if loaded.model.device != "cpu":
        raise bad_setting(ENV_WORKERS, "must be 1 where the model runs on a GPU: its memory cannot be shared")
    # Imported, not started: workers share this too.
    import_module("pilothouse_runtime.serve.grpc")
    # What is collected later would be written to, and what is written to is not shared any more.
    tidy()
    if _threads_beside() > 0:
        rule = "must be 1 for this model: it starts threads of its own, which would be missing in workers"
        raise bad_setting(ENV_WORKERS, rule)
    return Inheritance(
        settings, place, listener, readiness, loaded, threads, seconds=time.monotonic() - start
    )


def _threads_beside() -> int:
    """Return how many threads this process has that a fork would lose, beside the one that calls this.

    A run that waits for one of them would wait for ever. numpy's are ended and made anew around each fork, by itself.
    """
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return len([*Path("/proc/self/task").iterdir()]) - 1


class _Nursery:
    """Forks workers, and new ones when they die."""

    def __init__(self, heritage: Inheritance, board: Board, ties: Ties, reporter: Reporter) -> None:
        self._heritage = heritage
        self._board = board
        self._ties = ties
        self._reporter = reporter
        self._patience = Patience()
        self._pulse = Pulse()
        self._next_look = time.monotonic() + _LOOK
        self._places: dict[int, int] = {}  # of living workers, by process id
        self._due = dict.fromkeys(range(1, heritage.settings.workers + 1), 0.0)
        self._answered: dict[int, float] = {}  # requests by place, when its worker was forked
        self._draining = False

    def run(self) -> None:
        """Return when all workers have ended after SIGTERM.

        Raises:
            LoadError: workers die again and again.
        """
        while True:
            now = time.monotonic()
            for number in [number for number, due in self._due.items() if due <= now]:
                del self._due[number]
                self._fork(number)
            if self._draining and not self._places:
                return
            if self._next_look <= now:
                self._next_look = now + _LOOK
                self._look()
            next_due = min((self._next_look, *self._due.values()))
            self._take(signal.sigtimedwait(_SIGNALS, max(0.0, next_due - time.monotonic())))

    def _take(self, came: signal.struct_siginfo | None) -> None:
        if came is None:
            return
        if came.si_signo == signal.SIGTERM:
            self._drain()
        elif came.si_signo == signal.SIGCHLD:
            self._bury()

    def _look(self) -> None:
        """End workers that hang. While they drain, that is for who told them to end."""
        for pid, number in self._places.items():
            if self._pulse.stopped(pid, self._board.beats[index_of(number)]) and not self._draining:
                log.error("worker %d, process %d, does not stir", number, pid)
                os.kill(pid, signal.SIGKILL)

    def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._due.clear()
            self._heritage.listener.close()  # when the last worker closes it too, nobody can connect
        for pid in self._places:
            os.kill(pid, signal.SIGTERM)

    def _bury(self) -> None:
        """Take note of the workers that have ended: one signal may stand for several."""
        while self._places:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            number = self._places.pop(pid, None)
            if number is not None and not self._draining:
                self._replace(number, pid, how_it_ended(status))

    def _replace(self, number: int, pid: int, how: str) -> None:
        index = index_of(number)
        self._board.left(index)
        fruitful = self._board.blocks[index].requests > self._answered[number]
        log.error("worker %d, process %d, %s", number, pid, how)
        wait = self._patience.died(fruitful=fruitful, now=time.monotonic())
        if wait is None:
            told = f"workers die before they have answered anything; the last one {how}"
            raise LoadError(FailureReason.MODEL_LOAD_FAILED, told, permanent=False)
        self._due[number] = time.monotonic() + wait

    def _fork(self, number: int) -> None:
        index = index_of(number)
        self._answered[number] = self._board.blocks[index].requests
        loader = os.getpid()
        pid = os.fork()
        if pid:
            self._places[pid] = number
            self._board.pids[index] = pid
            return
        end_with_parent(loader)
        self._reporter.close()
        os.close(self._ties.go)
        self._heritage.readiness.keep_to_yourself()
        work(self._heritage, self._board, number)
