"""Who takes a connection, where several could."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pilothouse_runtime.serve.http.door import Door


class Crowd:
    """What each of some has, as they last told it."""

    def __init__(self, counts: list[int], index: int) -> None:
        self._counts = counts
        self._index = index

    def tell(self, connections: int) -> None:
        """See `door.Crowd`."""
        self._counts[self._index] = connections

    def fewest(self) -> int:
        """See `door.Crowd`."""
        return min(self._counts)


class Worker:
    """One that holds connections."""

    def __init__(self, listener: socket.socket, counts: list[int], index: int, before: int = 0) -> None:
        self.taken: list[asyncio.Protocol] = []
        self._before = counts[index] = before
        self.door = Door(listener.dup(), self._make, Crowd(counts, index), self.count)

    def count(self) -> int:
        """How many it has."""
        return self._before + len(self.taken)

    def _make(self) -> asyncio.Protocol:
        self.taken.append(asyncio.Protocol())
        return self.taken[-1]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def connect(listener: socket.socket) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(*listener.getsockname())
    return writer


async def until(workers: list[Worker], taken: int) -> None:
    async with asyncio.timeout(30):
        while sum(len(worker.taken) for worker in workers) < taken:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)


async def test_all_have_about_as_many(listener: socket.socket) -> None:
    counts = [0, 0]
    workers = [Worker(listener, counts, index) for index in range(2)]
    writers = []
    for number in range(20):
        writers.append(await connect(listener))
        await until(workers, number + 1)
    assert abs(workers[0].count() - workers[1].count()) <= 2
    for worker in workers:
        worker.door.close()
    for writer in writers:
        writer.close()


async def test_one_that_has_fewer_comes_first(listener: socket.socket) -> None:
    counts = [0, 0]
    workers = [Worker(listener, counts, 0, before=100), Worker(listener, counts, 1)]
    writers = []
    for number in range(5):
        writers.append(await connect(listener))
        await until(workers, number + 1)
    assert workers[1].count() >= 4
    for worker in workers:
        worker.door.close()
    for writer in writers:
        writer.close()


async def test_one_whose_others_do_not_come_takes_all(listener: socket.socket) -> None:
    busy = Worker(listener, [0, 0], 0, before=100)  # the other is there, and accepts nothing
    writers = [await connect(listener) for _ in range(5)]
    await until([busy], 5)
    busy.door.close()
    for writer in writers:
        writer.close()


async def test_what_was_accepted_is_a_connection_when_the_door_is_closed(listener: socket.socket) -> None:
    worker = Worker(listener, [0], 0)
    writer = await connect(listener)
    async with asyncio.timeout(30):
        while not worker.count() and not worker.door._opening:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    worker.door.close()
    await worker.door.wait_closed()
    assert worker.count() == 1
    writer.close()


async def test_a_closed_door_stays_closed_while_it_gives_way(listener: socket.socket) -> None:
    worker = Worker(listener, [0, 0], 0, before=100)
    writer = await connect(listener)
    async with asyncio.timeout(30):
        while worker.door._timer is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    worker.door.close()
    await worker.door.wait_closed()
    assert worker.taken == []
    writer.close()
