"""What torch needs where a model is loaded in one process and run in others that are forked from it.

The threads of OpenMP and MKL do not survive a fork, and a process that had some waits for ever for those that its
parent had. So the parent must never have any.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from pilothouse_runtime.engine.limits import usable_cpus

_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def stay_single() -> None:
    """Let torch, which is not imported yet, start no threads in this process."""
    for name in _THREADS:
        os.environ[name] = "1"


def threads_for(workers: int) -> int:
    """Return the threads that each of so many processes is to run models with. Before `stay_single`."""
    by_hand = os.environ.get(_THREADS[0], "")
    return int(by_hand) if by_hand.isdigit() and int(by_hand) else max(1, usable_cpus() // workers)


def begin_forked(threads: int) -> None:
    """Make torch, where the model needs it, ready in a process that was just forked."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    torch.set_num_threads(threads)
    torch.seed()  # models that draw random numbers would draw the same ones in each process
