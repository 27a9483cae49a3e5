"""The memory that all processes of one server share: what each has counted, and who they are.

Each cell is written by one process at a time, in one piece: no locks. A worker that takes a dead one's place counts on
in its block, so that sums never go back.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Final

from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.metrics import Block, Cells, Metrics, SharedMetrics
from pilothouse_runtime.workers.processes import Processes

SUPERVISOR: Final = 0  # whose block and place among the ids it is
LOADER: Final = 1
_OTHERS: Final = 2
_CELL: Final = 8  # bytes


def index_of(worker: int) -> int:
    """Return the place of a worker, of which the first is number 1."""
    return _OTHERS - 1 + worker


class Board:
    """Made before the first fork.

    Attributes:
        blocks: what each process counts: supervisor, loader (nothing), workers.
        pids: their process ids; 0 where there is none.
        beats: grow as long as the event loop of a worker goes round.
        connections: of HTTP, that each worker has.
    """

    def __init__(self, workers: int) -> None:
        count = _OTHERS + workers
        cells = _Size()
        Block(cells.allot)
        size = count * (cells.taken + 3) + Processes.CELLS
        allot = _cut(memoryview(mmap.mmap(-1, size * _CELL)).cast("d"))
        self.blocks = [Block(allot) for _ in range(count)]
        self.pids = allot(count)
        self.beats = allot(count)
        self.connections = allot(count)
        self._processes = Processes(self.pids, allot(Processes.CELLS))

    def metrics(self, index: int, readiness: Readiness) -> Metrics:
        """Return the metrics of one of the processes: it counts in its own block, and shows the sums of all."""
        others = [block for number, block in enumerate(self.blocks) if number != index]
        return SharedMetrics(readiness, self.blocks[index], others, self._processes)

    def left(self, index: int) -> None:
        """Take note that a worker is gone."""
        self.pids[index] = self.connections[index] = 0
        self.blocks[index].forget_gauges()
        self._processes.restarted()


class WorkersCrowd:
    """How many connections the workers have (`serve.http.door.Crowd`); those that are gone do not count."""

    def __init__(self, board: Board, index: int) -> None:
        self._board = board
        self._index = index

    def tell(self, connections: int) -> None:
        """See `Crowd`."""
        self._board.connections[self._index] = connections

    def fewest(self) -> int:
        """See `Crowd`."""
        pids, connections = self._board.pids, self._board.connections
        return int(min(connections[index] for index in range(_OTHERS, len(pids)) if pids[index]))


class _Size:
    """Counts cells."""

    def __init__(self) -> None:
        self.taken = 0

    def allot(self, count: int) -> Cells:
        self.taken += count
        return [0.0] * count


def _cut(view: memoryview[float]) -> Callable[[int], memoryview[float]]:
    """Return what hands out cells of a view, one after the other."""
    taken = 0

    def allot(count: int) -> memoryview[float]:
        nonlocal taken
        taken += count
        return view[taken - count : taken]

    return allot
