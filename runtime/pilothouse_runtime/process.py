"""What the programs of the image share: where their files are, and how they say why they end."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pilothouse_runtime import contract
from pilothouse_runtime.contract import LastWords, Phase, PhaseTime
from pilothouse_runtime.core.errors import LoadError

log = logging.getLogger(__name__)


def server_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the server's flags, which a pod leaves at their defaults."""
    parser = argparse.ArgumentParser(
        prog="pilothouse-runtime",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="", help="address to listen on (all)")
    parser.add_argument("--port", type=int, default=contract.HTTP_PORT, help="0 takes a free one and logs it")
    parser.add_argument(
        "--grpc-port", type=int, default=contract.GRPC_PORT, help="0 takes a free one and logs it"
    )
    add_places(parser)
    parser.add_argument(
        "--drift-mount",
        type=Path,
        default=Path(contract.DRIFT_MOUNT),
        help="the same for the data set of drift",
    )
    return parser


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add --termination-log, --cache-dir, --pvc-mount and --model-mount, which a pod leaves at their defaults."""
    parser.add_argument("--termination-log", type=Path, default=Path(contract.TERMINATION_LOG))
    parser.add_argument(
        "--cache-dir", type=Path, default=Path(contract.CACHE_DIR), help="where downloads are kept"
    )
    parser.add_argument(
        "--pvc-mount", type=Path, default=Path(contract.PVC_MOUNT), help="root of pvc:// paths"
    )
    parser.add_argument(
        "--model-mount", type=Path, default=Path(contract.MODEL_MOUNT), help="what the fetch program brings"
    )


def leave_words(failure: LoadError, termination_log: Path, history: Sequence[PhaseTime] = ()) -> None:
    """Tell the log and the termination log why the process gives up, and how far it had come by `history`."""
    log.error(failure.message, extra={"reason": failure.reason, "permanent": failure.permanent})
    lived = tuple(entered for entered in history if entered.phase is not Phase.FAILED)
    phase = lived[-1].phase if lived else None
    words = LastWords(failure.reason, failure.message, failure.permanent, phase, lived)
    leave(words.encode(), termination_log)


def leave(text: str, termination_log: Path) -> None:
    """Write the termination message; a log that cannot be written is told of, and is no reason to fail."""
    try:
        termination_log.write_text(text)
    except OSError as error:
        log.warning("cannot write %s: %s", termination_log, error.strerror)


def exit_now(code: int) -> NoReturn:
    """End the process, whatever its other threads are doing or waiting for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
