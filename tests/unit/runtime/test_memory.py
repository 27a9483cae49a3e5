"""Memory that the last requests needed goes back to the system when no more come."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import torch

from pilothouse_runtime.engine.memory import give_back_at_rest
from tests.support.waiting import eventually

PIECES = 4000
SIZE = 16 * 1024  # bytes of a piece: below what malloc takes from the system for itself


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_what_was_needed_under_load_is_given_back_at_rest() -> None:
    count = 0.0
    resting = asyncio.create_task(give_back_at_rest(lambda: count, rest=0.01))
    await asyncio.sleep(0)  # it has begun, and counted
    held = [torch.ones(SIZE // 4) for _ in range(PIECES)]
    kept = held[::100]  # so that the heap cannot simply end lower
    high = resident()
    del held
    count += 1
    await eventually(lambda: high - resident() > PIECES * SIZE // 2)
    assert len(kept) == PIECES // 100
    resting.cancel()
