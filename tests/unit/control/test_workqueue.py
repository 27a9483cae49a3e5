"""The queue hands out each key once, to one worker, and forgets none."""

from __future__ import annotations

import asyncio
import random

from pilothouse.control.backoff import Backoff
from pilothouse.control.workqueue import WorkQueue


async def test_many_events_are_one_piece_of_work() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_key_is_not_worked_on_twice_at_once_and_comes_again_after() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_of_several_delays_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)
    assert await asyncio.wait_for(queue.get(), 5) == "a"
    queue.close()


async def test_an_event_overtakes_a_delay() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    marker: asyncio.Event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, marker.set)
    await marker.wait()
    assert len(queue) == 0, "the delay was for the pass that has been made"


async def test_waiting_worker_is_woken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add_after("a", 0)
    assert await asyncio.wait_for(waiting, 5) == "a"


def test_backoff_doubles_to_a_limit_and_starts_over() -> None:
    backoff: Backoff[str] = Backoff(first=1, most=8, rng=random.Random(1))  # noqa: S311 - any numbers will do
    delays = [backoff.next("a") for _ in range(6)]
    for delay, ceiling in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert ceiling / 2 <= delay <= ceiling
    assert backoff.next("b") <= 1
    backoff.reset("a")
    assert backoff.next("a") <= 1
