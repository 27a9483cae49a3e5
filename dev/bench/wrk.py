"""Runs wrk, the load generator, and reads what it measured."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCRIPT: Final = Path(__file__).parent / "post.lua"
_FAILURES: Final = ("connect", "read", "write", "status", "timeout")


class WrkError(Exception):
    """wrk did not run, or said something that cannot be read."""


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured.

    Attributes:
        rate: answers a second.
        p50, p99: milliseconds that half, or 99 % of the answers took at most.
        failures: answers above 399 (`status`), socket errors (`connect`, `read`, `write`), and answers that took longer
            than wrk was told to wait (`timeout`); only what is not 0.
    """

    rate: float
    p50: float
    p99: float
    requests: int
    failures: Mapping[str, int]


def parse(output: str) -> Load:
    """Read what post.lua printed at the end of a run.

    Raises:
        WrkError: there is no such line, or nothing was answered.
    """
    line = next((line for line in reversed(output.splitlines()) if line.startswith("{")), None)
    try:
        said = json.loads(line or "")
        failures = {name: int(said[name]) for name in _FAILURES if said[name]}
        good = int(said["requests"]) - failures.get("status", 0)
        rate = good / (said["duration"] / 1e6)
        return Load(rate, said["p50"] / 1e3, said["p99"] / 1e3, int(said["requests"]), failures)
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise WrkError(f"wrk gave no summary: {output.strip()[-300:]}") from error


def run(
    port: int, path: str, body: Path, headers: Mapping[str, str], connections: int, seconds: float
) -> Load:
    """Post one body for some seconds over a number of connections, from one thread.

    Raises:
        WrkError: see there.
    """
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--timeout", "30s", "-s", str(_SCRIPT)]
    argv += [f"http://127.0.0.1:{port}{path}", "--", str(body)]
    argv += [word for pair in headers.items() for word in pair]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
    except subprocess.TimeoutExpired as error:
        raise WrkError(f"wrk did not end: {argv}") from error
    if done.returncode != 0:
        raise WrkError(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return parse(done.stdout)
