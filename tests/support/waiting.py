"""Waiting for the world to be as it should, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    look: Callable[[], T], *, seconds: float = 60, every: float = 0.2, what: Callable[[], str] | None = None
) -> T:
    """Call `look` until it returns something true, and return that.

    Raises:
        AssertionError: it did not in time; the message holds what it returned last.
    """
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= end:
            raise AssertionError(
                f"not within {seconds:.0f} s: {what() if what else look}; last seen: {found!r}"
            )
        time.sleep(every)


def holds_for(look: Callable[[], object], *, seconds: float, every: float = 0.5) -> None:
    """Check that `look` returns something true the whole time.

    Raises:
        AssertionError: once it did not.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert look()
        time.sleep(every)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: it does not hold in time.
    """
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.05)
