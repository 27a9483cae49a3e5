"""How the CPUs are shared between runs that happen at the same time.

Measured on 2 CPUs (docs/benchmarks.md): two runs with one thread each give a third more rows a second than one run with
two threads, which wait for each other at every operator. But a request that is alone is answered sooner by two.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

_MOST: Final = 8  # runs at the same time: each has its own tensors in memory

_set = threading.local()


@dataclass(frozen=True)
class Threads:
    """How many runs there may be at a time, and how many threads each gets: alone, and beside others."""

    runners: int = 1
    alone: int = 1
    beside: int = 1


def share(together: bool) -> Threads:
    """Return how runs share the CPUs that torch was given: this process's, or what OMP_NUM_THREADS says.

    Args:
        together: the model may run more than once at a time.
    """
    import torch

    cpus = torch.get_num_threads()
    runners = min(cpus, _MOST) if together else 1
    return Threads(runners, cpus, max(1, cpus // runners))


def use(count: int) -> None:
    """Let runs in this thread, from now on, use so many threads."""
    if getattr(_set, "count", None) != count:
        import torch

        torch.set_num_threads(count)
        _set.count = count
