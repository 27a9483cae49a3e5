"""Keeps a process small: what was used for loading is given back to the system."""

from __future__ import annotations

import ctypes
import gc


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
