"""Fuzzes the HTTP front with atheris, which is led by the lines of ours that the bytes reach.

    .venv/bin/python -m tests.nightly.fuzz_http -max_total_time=3600 build/fuzz-http

What is given after the options is libFuzzer's: a folder keeps what was found to reach new lines. It ends with the
first input that breaks what must hold, and writes that to a file; give the file instead of the folder to see it again.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pilothouse_runtime.codecs", "pilothouse_runtime.serve"]):
    from tests.property.runtime.test_fuzz_http import SCRAPS, VALID, check, deliver
    from tests.support.http_wire import Wire

_SIGNATURES = 2


def one_input(data: bytes) -> None:
    """Send bytes to a server, in pieces whose sizes come first, and check what must hold."""
    if len(data) < 4:
        return
    wire = Wire() if data[0] % _SIGNATURES else Wire(None)
    check(wire, deliver(wire, data[4:], [size * 7 for size in data[1:4]]))


def main() -> None:
    """Begin with what the property tests send."""
    logging.disable()
    arguments = sys.argv
    for folder in filter(Path.is_dir, map(Path, arguments[1:])):
        for number, seed in enumerate([*VALID, *SCRAPS]):
            (folder / f"seed-{number}").write_bytes(b"\x01\x00\x00\x00" + seed)
    atheris.Setup(arguments, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
