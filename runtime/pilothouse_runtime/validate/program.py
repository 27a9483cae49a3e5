"""The program: reads its environment, validates within its time, and leaves what came of it in the termination log."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from pilothouse_runtime import contract
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.engine.download import DownloadPolicy
from pilothouse_runtime.engine.golden import not_done
from pilothouse_runtime.engine.source import Source
from pilothouse_runtime.process import add_places, exit_now, leave, leave_words
from pilothouse_runtime.serve import logs
from pilothouse_runtime.validate.settings import ValidationSettings, read_validation_settings
from pilothouse_runtime.validate.validation import validate

log = logging.getLogger("pilothouse_runtime.validate")

# More patient than with a model: a container that serves is started again, a Job that has failed is not.
_POLICY: Final = DownloadPolicy(attempts=6, patience=60)


class _Attempt:
    """One validation under a time limit: whichever of the two comes first ends the process."""

    def __init__(self, settings: ValidationSettings, source: Source, termination_log: Path) -> None:
        self._settings = settings
        self._source = source
        self._termination_log = termination_log
        self._doing = "starting"
        self._ending = threading.Lock()  # never released: there is one end

    def run(self) -> NoReturn:
        """Validate, and end the process."""
        timer = threading.Timer(self._settings.timeout, self._out_of_time)
        timer.daemon = True
        timer.start()
        try:
            report = validate(self._settings, self._source, self._tell)
        except LoadError as failure:
            self._give_up(failure)
        except Exception as error:
            log.exception("the validation failed in a way that was not foreseen")
            self._give_up(not_done(f"{type(error).__name__}: {error}", permanent=False))
        log.info("%s", report.message)
        self._end(0, lambda: leave(report.encode(), self._termination_log))

    def _tell(self, message: str) -> None:
        self._doing = message
        log.debug("%s", message)

    def _out_of_time(self) -> None:
        told = f"not done within {self._settings.timeout:g} s; the last that happened: {self._doing}"
        self._give_up(not_done(told, permanent=False))

    def _give_up(self, failure: LoadError) -> NoReturn:
        self._end(1, lambda: leave_words(failure, self._termination_log))

    def _end(self, code: int, last: Callable[[], None]) -> NoReturn:
        self._ending.acquire()
        last()
        exit_now(code)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Validate one revision; exit codes and what is left behind are told in `contract`, at VALIDATION_COMMAND."""
    # A container's first process gets no default handlers. Whoever ends it early gets no words: nothing was found.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(
        prog="pilothouse-validate",
        description="Sends a golden data set to a served model and computes how good its answers are. Which ones are"
        f" in the environment ({contract.ENV_PREFIX}...); what is given here is for running it outside a pod.",
    )
    add_places(parser)
    given = parser.parse_args(arguments)
    source = Source(
        given.cache_dir,
        given.pvc_mount,
        _POLICY,
        contract.ENV_VALIDATION_URI,
        "rollout.validation",
        given.model_mount,
    )
    logs.configure("INFO")
    try:
        settings = read_validation_settings(os.environ)
    except LoadError as failure:
        leave_words(failure, given.termination_log)
        exit_now(1)
    logs.configure(settings.log_level)
    _Attempt(settings, source, given.termination_log).run()
