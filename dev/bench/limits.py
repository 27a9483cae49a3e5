"""What no server can go beyond: the best loop around the model, and what importing torch takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

from dev.bench.figures import Importing, Loop
from dev.shell import ROOT

_IMPORT: Final = "import torch; print(open('/proc/self/smaps_rollup').read())"


def loops(model: str, folder: Path, seconds: float) -> tuple[Loop, ...]:
    """Measure plain loops around a model, `seconds` for each way.

    Raises:
        OSError: the program failed.
    """
    argv = [sys.executable, "-W", "ignore", "-m", "dev.bench.loops", model, str(folder), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise OSError(f"the loops around {model} failed: {done.stderr[-500:]}")
    return tuple(Loop(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{"))


def importing(times: int) -> Importing:
    """Measure `python -c "import torch"`, some times after one that does not count."""
    seconds, memory = [], []
    for _ in range(times + 1):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - began)
        memory.append(pss(done.stdout))
    return Importing(median(seconds[1:]), int(median(memory[1:])))


def pss(rollup: str) -> int:
    """Return the bytes that /proc/PID/smaps_rollup tells as proportional set size."""
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
