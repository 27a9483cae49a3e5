"""Keeps a process small: what was used for loading is given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable
from typing import Final

_REST: Final = 2.0  # seconds without a request after which what the last ones needed is given back


def tidy() -> None:
    """Clean up once, when a model is loaded: what is left then stays as long as the process.

    Looking through all of that again and again for garbage would stop all requests for tens of milliseconds each time.
    """
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Return memory to the system that C libraries have freed and keep for themselves, where libc can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


async def give_back_at_rest(ended: Callable[[], float], rest: float = _REST) -> None:
    """Give memory back each time that requests have come to an end, and then none for a while. Runs until cancelled.

    libc keeps what activations took for the next run, which is right under load; a pod at rest would hold hundreds of
    megabytes for nothing.

    Args:
        ended: how many requests have ended so far.
        rest: seconds.
    """
    seen, owed = ended(), False
    while True:
        await asyncio.sleep(rest)
        now = ended()
        if now != seen:
            seen, owed = now, True
        elif owed:
            await asyncio.to_thread(give_back)  # it may take some milliseconds
            owed = False
