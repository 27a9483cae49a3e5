"""The program: reads its environment, brings the model, and leaves its last words where that fails."""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Sequence
from typing import Final, NoReturn

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.discretion import Discretion
from pilothouse_runtime.engine.download import DownloadPolicy
from pilothouse_runtime.fetch.answering import answer
from pilothouse_runtime.fetch.bringing import bring
from pilothouse_runtime.fetch.settings import read_fetch_settings
from pilothouse_runtime.process import add_places, exit_now, leave_words
from pilothouse_runtime.serve import logs

log = logging.getLogger("pilothouse_runtime.fetch")

# More patient than a server with a model from an open web server: what is fetched here is larger.
_POLICY: Final = DownloadPolicy(attempts=5, patience=60)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Bring one model; exit codes and what is left behind are told in `contract`, at FETCH_COMMAND."""
    # A container's first process gets no default handlers. Whoever ends it early gets no words: nothing was found.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(
        prog="pilothouse-fetch",
        description="Brings a model to a folder and checks its digest. Which one, and credentials, are in the"
        f" environment ({contract.ENV_FETCH_URI}, ...); what is given here is for running it outside a pod.",
    )
    parser.add_argument("--host", default="", help="address at which to tell how far it is (all)")
    parser.add_argument("--port", type=int, default=contract.HTTP_PORT, help="0 takes a free one and logs it")
    add_places(parser)
    given = parser.parse_args(arguments)
    # Values of the environment may be in what libraries say: from here on nothing is told with them.
    discreet = Discretion(os.environ)
    _log("INFO", discreet)
    readiness = Readiness()
    of = ""  # what is fetched, where that is not the model

    def tell(message: str) -> None:
        told = discreet(message)
        readiness.enter(Phase.PULLING, told)
        log.info("%s", told)

    try:
        settings = read_fetch_settings(os.environ)
        _log(settings.log_level, discreet)
        of = "" if settings.spec_field == "model" else f"{settings.spec_field}: "
        port = answer(readiness, given.host, given.port)
        log.info("listening", extra={"port": port})
        record = bring(settings, os.environ, given.model_mount, _POLICY, tell)
    except LoadError as failure:
        words = LoadError(failure.reason, discreet(of + failure.message), permanent=failure.permanent)
    except Exception as error:
        log.exception("the fetch failed in a way that was not foreseen")
        told = discreet(f"{of}{type(error).__name__}: {error}")
        words = LoadError(FailureReason.MODEL_DOWNLOAD_FAILED, told, permanent=False)
    else:
        log.info("brought %s", record.path, extra={"seconds": round(record.seconds, 3)})
        exit_now(0)
    leave_words(words, given.termination_log, readiness.history)
    exit_now(1)


def _log(level: str, discreet: Discretion) -> None:
    logs.configure(level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(discreet.filter)
