"""What the figures were measured on and with, for people who read them elsewhere."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from dev.bench import environments
from dev.bench.settings import PEERS
from dev.shell import ROOT


def about() -> dict[str, str]:
    """Return names and values: the machine, the date, the commit, the versions."""
    read = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "commit": _commit(), "cpu": _cpu()}
    read |= {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        # Whoever built it matters: by an eighth of the CPU time of a small request.
        "python": f"{platform.python_version()} in {sys.base_prefix} ({platform.python_compiler()})",
        "torch": version("torch"),
        "wrk": _wrk(),
    }
    return read | {peer.title: environments.planned(peer.name).version(peer.package) for peer in PEERS}


def _commit() -> str:
    argv = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _wrk() -> str:
    if not shutil.which("wrk"):
        return "missing"
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    words = (done.stdout or done.stderr).split()
    return words[1] if len(words) > 1 else "unknown"
