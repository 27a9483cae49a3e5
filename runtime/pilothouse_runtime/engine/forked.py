"""What torch and the kernel need where a model is loaded in one process and run in others that are forked from it.

The threads of OpenMP and MKL do not survive a fork, and a process that had some waits for ever for those that its
parent had. So the parent must never have any.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

from pilothouse_runtime.engine.limits import usable_cpus

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
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


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent, whose id is given, dies; or at once if it has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:
        os._exit(1)
