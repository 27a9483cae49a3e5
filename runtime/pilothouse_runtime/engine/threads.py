"""How the CPUs are shared between runs that happen at the same time.

Measured on 2 CPUs (docs/benchmarks.md): two runs with one thread each give a third more rows a second than one run with
two threads, which wait for each other at every operator. But a request that is alone is answered sooner by two.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from typing import Final

from pilothouse_runtime.engine.limits import usable_cpus

_MOST: Final = 8  # runs at the same time: each has its own tensors in memory

_set = threading.local()


@dataclass(frozen=True)
class Threads:
    """How many runs there may be at a time, and how many threads each gets: alone, and beside others."""

    runners: int = 1
    alone: int = 1
    beside: int = 1


def cpus_to_use() -> int:
    """Return what OMP_NUM_THREADS says, else the CPUs that this process may use."""
    by_hand = os.environ.get("OMP_NUM_THREADS", "")
    return int(by_hand) if by_hand.isdigit() and int(by_hand) else usable_cpus()


def share(together: bool) -> Threads:
    """Return how runs share the CPUs: those of torch where it is loaded, else what OMP_NUM_THREADS says or there are.

    Args:
        together: the model may run more than once at a time.
    """
    torch = sys.modules.get("torch")
    cpus = torch.get_num_threads() if torch else cpus_to_use()
    runners = min(cpus, _MOST) if together else 1
    return Threads(runners, cpus, max(1, cpus // runners))


def use(count: int) -> None:
    """Let runs in this thread, from now on, use so many threads."""
    if getattr(_set, "count", None) != count:
        if torch := sys.modules.get("torch"):  # models of other libraries share one pool of threads
            torch.set_num_threads(count)
        _set.count = count
