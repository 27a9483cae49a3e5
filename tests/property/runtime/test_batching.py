"""The batching policy in a played world: clients, a model and a clock that are all numbers."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_runtime.core.batching import Limits, Queue
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.tensors import Datatype, Tensor


def job(rows: int = 1, width: int = 2, deadline: float | None = None) -> Job:
    """Return a request of [rows, width]."""
    tensor = Tensor("x", Datatype.FP32, np.zeros((rows, width), np.float32))
    return Job((tensor,), lambda result: None, deadline)


@dataclass
class World:
    """One model that runs one batch at a time; `cost(rows)` are the seconds of a run."""

    limits: Limits
    cost: Callable[[int], float]
    now: float = 0.0
    busy_until: float | None = None
    running: list[Job] = field(default_factory=list)
    batches: list[list[Job]] = field(default_factory=list)
    held: list[float] = field(default_factory=list)  # for how long a free model was kept waiting, each time
    refused: int = 0
    reasons: set[Code] = field(default_factory=set)
    expired: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = Queue(self.limits)
        self.began: dict[int, float] = {}
        self.ended: dict[int, float] = {}

    def send(self, sent: Job) -> bool:
        """Let a request arrive now; say whether it was taken."""
        try:
            self.queue.add(sent, self.now)
        except RequestError as error:
            self.refused += 1
            self.reasons.add(error.code)
            return False
        return True

    def start(self) -> float | None:
        """Begin a run if there is one to begin; return when to look again where the policy waits."""
        if self.busy_until is not None:
            return None
        self.expired += self.queue.overdue(self.now)
        if not len(self.queue):
            return None
        if patience := self.queue.patience(self.now):
            assert patience <= self.limits.max_delay
            return self.now + patience
        jobs = self.queue.take()
        assert jobs
        self.batches.append(jobs)
        self.running = jobs
        for one in jobs:
            self.began[id(one)] = self.now
        self.held.append(self.now - max(jobs[0].arrived, max(self.ended.values(), default=0.0)))
        self.busy_until = self.now + self.cost(sum(one.rows for one in jobs))
        return None

    def finish(self) -> list[Job]:
        """End the run."""
        assert self.busy_until is not None
        self.now = self.busy_until
        self.busy_until = None
        rows = sum(one.rows for one in self.running)
        self.queue.ran(self.running, self.cost(rows), self.now)
        for one in self.running:
            self.ended[id(one)] = self.now
        return self.running


def closed_loop(world: World, clients: int, think: float, seconds: float) -> int:
    """Let clients send one request each, and the next one `think` seconds after its answer; return the answers."""
    arrivals = [(0.0, number) for number in range(clients)]
    heapq.heapify(arrivals)
    answers = 0
    owner: dict[int, int] = {}
    alive: list[Job] = []
    look: float | None = None
    while world.now < seconds:
        times = [
            at for at in (arrivals[0][0] if arrivals else None, world.busy_until, look) if at is not None
        ]
        following = min(times)
        if world.busy_until == following:
            for done in world.finish():
                answers += 1
                heapq.heappush(arrivals, (world.now + think, owner[id(done)]))
        else:
            world.now = max(world.now, following)
            while arrivals and arrivals[0][0] <= world.now:
                _, number = heapq.heappop(arrivals)
                sent = job()
                alive.append(sent)
                owner[id(sent)] = number
                world.send(sent)
        look = world.start()
    return answers


@given(
    clients=st.integers(1, 80),
    fixed=st.floats(0.0001, 0.05),
    row=st.floats(0.00001, 0.02),
    think=st.floats(0, 0.005),
    max_rows=st.integers(1, 64),
)
@settings(max_examples=60, deadline=None)
def test_under_load_batches_are_full_and_nobody_starves(
    clients: int, fixed: float, row: float, think: float, max_rows: int
) -> None:
    """Of a model whose rows share a fixed cost, at least seven tenths of what is possible are got out.

    Clients that send again after their answer settle in one of two ways: all of them in one batch, or two halves that
    take turns.
    """
    cost = lambda rows: fixed + row * rows  # noqa: E731 - a number of a number
    world = World(Limits(max_rows=max_rows), cost)
    seconds = 300 * cost(max_rows)
    rate = closed_loop(world, clients, think, seconds) / seconds
    together, half = min(clients, max_rows), max(1, min(max_rows, clients // 2))
    all_at_once = min(clients / (cost(together) + think), together / cost(together))
    taking_turns = min(half / cost(half), clients / (2 * cost(half) + think))
    assert rate >= 0.7 * min(all_at_once, taking_turns)
    assert all(sum(one.rows for one in batch) <= max_rows for batch in world.batches)


@given(fixed=st.floats(0.0001, 0.05), think=st.floats(0, 0.2))
@settings(max_examples=40, deadline=None)
def test_one_client_alone_never_waits_for_company(fixed: float, think: float) -> None:
    world = World(Limits(), lambda rows: fixed)
    closed_loop(world, 1, think, 50 * (fixed + think))
    assert max(world.held) == 0


@given(fixed=st.floats(0.01, 0.05), clients=st.integers(8, 32))
@settings(max_examples=20, deadline=None)
def test_after_a_crowd_one_client_soon_does_not_wait_any_more(fixed: float, clients: int) -> None:
    world = World(Limits(), lambda rows: fixed)
    closed_loop(world, clients, 0.001, 20 * fixed)
    while world.busy_until is not None:
        world.finish()
        world.start()
    before = len(world.batches)
    closed_loop(world, 1, 0.001, world.now + 50 * (fixed + 0.001))
    assert max(world.held[before:]) <= world.limits.max_delay + 1e-9
    assert max(world.held[before + 25 :]) == 0


requests = st.lists(
    st.tuples(
        st.floats(0, 0.01),  # after the one before it
        st.integers(0, 9),  # rows
        st.integers(1, 3),  # width: rows of another width have another shape
        st.none() | st.floats(0.001, 0.05),  # for how long its client waits
        st.booleans(),  # its client leaves
    ),
    max_size=60,
)


@given(story=requests, max_rows=st.integers(1, 8), cost=st.floats(0.0001, 0.02))
@settings(max_examples=150, deadline=None)
def test_whatever_comes(
    story: list[tuple[float, int, int, float | None, bool]], max_rows: int, cost: float
) -> None:
    """Each request ends once: run, expired, dropped or refused; shapes are never mixed; the first come goes first."""
    world = World(Limits(max_rows=max_rows, min_waiting=20), lambda rows: cost * max(rows, 1))
    taken: list[Job] = []
    dropped: list[Job] = []
    at = 0.0
    for gap, rows, width, patience, leaves in story:
        at += gap
        _run_until(world, at)
        sent = job(rows, width, None if patience is None else at + patience)
        if world.send(sent):
            taken.append(sent)
            if leaves:
                world.queue.drop(sent)
                dropped.append(sent)
        world.start()
    _run_until(world, math.inf)
    assert len(world.queue) == 0
    ran = [one for batch in world.batches for one in batch]
    ends = [*map(id, ran), *map(id, world.expired), *map(id, dropped)]
    assert sorted(ends) == sorted(map(id, taken))
    assert world.refused == len(story) - len(taken)
    assert world.reasons <= {Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED}
    for late in world.expired:
        assert late.deadline is not None
    for one in ran:
        assert one.deadline is None or world.began[id(one)] < one.deadline
    for batch in world.batches:
        assert len({one.inputs[0].array.shape[1:] for one in batch}) == 1
        assert len(batch) == 1 or sum(len(one.inputs[0].array) for one in batch) <= max_rows
        assert [one.arrived for one in batch] == sorted(one.arrived for one in batch)
    for earlier, later in zip(world.batches, world.batches[1:], strict=False):
        # What began a batch had waited longest of all that waited.
        assert earlier[0].arrived <= later[0].arrived or later[0].arrived > world.began[id(earlier[0])]


def _run_until(world: World, at: float) -> None:
    while True:
        if world.busy_until is not None:
            if world.busy_until > at:
                break
            world.finish()
        look = world.start()
        if world.busy_until is None:
            if look is None or look > at:
                break
            world.now = look
    if at < math.inf:
        world.now = max(world.now, at)


@given(slow=st.integers(3, 6), max_class=st.integers(4, 6))
def test_sizes_that_are_slower_a_row_are_left_alone(slow: int, max_class: int) -> None:
    """A model whose caches end at some size is run at that size; and found again when it changes."""
    most = 1 << max_class

    def cost(rows: int, best: int) -> float:
        return 0.001 * rows * (1 + 0.2 * abs(math.log2(rows) - best))

    world = World(Limits(max_rows=most, max_delay=0), lambda rows: cost(rows, min(slow, max_class)))
    closed_loop(world, 4 * most, 0, 200 * most * 0.001)
    sizes = [len(batch) for batch in world.batches]
    tail = sizes[len(sizes) // 2 :]
    best = 1 << min(slow, max_class)
    assert sum(best / 2 < size <= best for size in tail) >= 0.8 * len(tail)
