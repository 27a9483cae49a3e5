"""The program `pilothouse-runtime`: a command of people, or without one the server of a pod."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from pilothouse_runtime.cli.usage import DONE, INTERRUPTED, WRONG_USE, UnwritableError, refuse, show, tell
from pilothouse_runtime.process import server_parser

_COMMANDS: Final = {
    "pack": "make a servable folder from a trained model, and prove that it answers as the model does",
    "serve": "serve one model file or folder on this machine, with no cluster",
    "validate": "ask a server a golden data set, and print how good its answers are",
    "digest": "print what spec.model.digest of a ModelDeployment wants",
}
_COMMAND_LIST: Final = "\n".join(f"  {name:<10} {what}" for name, what in _COMMANDS.items())
_OVERVIEW: Final = f"""\
From a trained model to one that is served, over the Open Inference Protocol v2.

commands (each has --help):
{_COMMAND_LIST}

Without a command it serves the model that the environment names (PILOTHOUSE_MODEL_URI and others, as the
operator sets them; see docs/runtime.md), until SIGTERM. The options below are for that, outside a pod.
"""


def _run(name: str, words: Sequence[str]) -> int:
    try:
        code: int = import_module(f"pilothouse_runtime.cli.{name}").run(words)
    except KeyboardInterrupt:  # where it was, is nothing that its user asked for
        refuse(name, "interrupted", INTERRUPTED)
    except UnwritableError as error:
        refuse(name, f"standard output cannot be written: {error}; nothing else failed")
    return code


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that the first word names; each is imported only then, so that none waits for torch in vain."""
    words = sys.argv[1:] if words is None else list(words)
    first = words[0] if words else ""
    if first in _COMMANDS:
        raise SystemExit(_run(first, words[1:]))
    if first in ("-h", "--help"):
        parser = server_parser(_OVERVIEW)
        parser.usage = "pilothouse-runtime COMMAND [...]\n       pilothouse-runtime [options]"
        show(parser.format_help().rstrip())
        raise SystemExit(DONE)
    if first and not first.startswith("-"):
        tell(
            f"pilothouse-runtime: {first!r} is no command; there are {', '.join(_COMMANDS)}, each with --help"
        )
        raise SystemExit(WRONG_USE)
    from pilothouse_runtime.app import main as serve_by_environment

    serve_by_environment(words)
