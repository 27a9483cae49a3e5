"""What the pages and the errors of all commands have in common."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from pathlib import Path
from typing import Final, NoReturn

DONE: Final = 0
REFUSED: Final = 1  # the answer is no: not packed, not good enough, not served
WRONG_USE: Final = 2  # argparse's own
NOT_DONE: Final = 3  # nothing can be said: nobody answers, or the data set cannot be used
INTERRUPTED: Final = 130  # by Ctrl-C, as shells say it

_HIGHEST_PORT: Final = 65535


class UnwritableError(Exception):
    """Standard output takes nothing more: a full disk, or a pipe that nobody reads."""


class Pages(argparse.RawDescriptionHelpFormatter):
    """Help as it was written, with room for the names of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


def command(name: str, description: str, ending: str) -> argparse.ArgumentParser:
    """Return the parser of one command; `description` and `ending` are told as they are."""
    return argparse.ArgumentParser(
        prog=f"pilothouse-runtime {name}",
        description=description,
        epilog=ending,
        formatter_class=Pages,
        allow_abbrev=False,
    )


def tell(message: str) -> None:
    """Tell the user something that is not the result: results alone go to standard output."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - a program's words


def show(text: str) -> None:
    """Write a result. Raises UnwritableError."""
    try:
        print(text, flush=True)  # noqa: T201 - a program's words
    except OSError as error:
        with contextlib.suppress(OSError):
            sys.stdout.close()  # Python would try once more at its end, and tell of it
        raise UnwritableError(error.strerror or str(error)) from None


def refuse(name: str, message: str, code: int = REFUSED) -> NoReturn:
    """End a command that cannot do what it was asked for."""
    tell(f"pilothouse-runtime {name}: {message}")
    raise SystemExit(code)


def port(text: str) -> int:
    """Read a port; 0 is any that is free. This and the functions below are types of arguments."""
    return _whole(text, 0, _HIGHEST_PORT)


def count(text: str) -> int:
    """Read a whole number from 1 on."""
    return _whole(text, 1, sys.maxsize)


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        limits = f"from {least} to {most}" if most < sys.maxsize else f"of {least} or more"
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number {limits}")
    return number


def number(text: str) -> float:
    """Read a number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number")
    return value


def existing(text: str) -> Path:
    """Read the path of a file or folder."""
    path = Path(text)
    try:
        path.stat()
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(f"{text} does not exist") from None
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return path
