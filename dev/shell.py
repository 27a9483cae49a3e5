"""Runs commands the way a user would, and shows them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class CommandFailedError(Exception):
    """A command ended with another status than 0; the message holds the command and what it said."""


def show(argv: Sequence[str]) -> None:
    """Print a command as a user would type it."""
    name = Path(argv[0]).name
    print(f"\n  $ {shlex.join([name, *argv[1:]])}", flush=True)


def run(
    argv: Sequence[str],
    *,
    shown: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> str:
    """Run a command to its end and return its standard output; `shown` prints the command and what it says.

    Raises:
        CommandFailedError: the command failed, or was not done after `timeout` seconds.
    """
    if shown:
        show(argv)
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{shlex.join(argv)}: not done after {timeout:.0f} s") from error
    if shown:
        indented(done.stdout)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CommandFailedError(f"{shlex.join(argv)}: exit status {done.returncode}: {said}")
    return done.stdout


def indented(text: str) -> None:
    """Print what a command said, set off from what we say."""
    for line in text.rstrip().splitlines():
        print(f"    {line}")
    sys.stdout.flush()
