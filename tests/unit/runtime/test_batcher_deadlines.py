"""Deadlines of requests: each is kept, and none is remembered once its request is answered."""

from __future__ import annotations

import asyncio
import gc
import time

from pilothouse_runtime.core.errors import Code, RequestError
from tests.unit.runtime.test_batcher import PATIENCE, Bench, Doubler, queue, until, values


def timers() -> int:
    gc.collect()
    return sum(type(found) is asyncio.TimerHandle for found in gc.get_objects())


async def test_deadlines_far_away_are_not_kept() -> None:
    """A gRPC client's deadline is often a minute: a timer for each request would be kept for as long."""
    bench = Bench(Doubler(), queue(quick=True))
    before = timers()
    for _ in range(200):
        assert await values(bench.ask(1, deadline=time.monotonic() + 3600)) == [2]
    assert timers() <= before + 5


async def test_each_deadline_is_kept_in_whatever_order_they_came() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=False))
    model.gate.clear()
    first = bench.ask(1)
    await until(lambda: model.rows == [1])
    now = time.monotonic()
    patient = bench.ask(2, deadline=now + 3600)
    late = [bench.ask(3, deadline=now + seconds) for seconds in (0.05, 0.02, 0.08, 0.02)]
    for answer in late:
        result = await asyncio.wait_for(answer, PATIENCE)
        assert isinstance(result, RequestError)
        assert result.code is Code.DEADLINE_EXCEEDED
    model.gate.set()
    assert (await values(first), await values(patient)) == ([2], [4])
