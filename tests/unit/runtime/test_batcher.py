"""Running what waits: in the loop or in threads, together, apart where one request is at fault, and not for nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pilothouse_runtime.core.batching import Limits, Queue
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.predictor import Job, ModelDescription
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.engine.batcher import Batcher
from pilothouse_runtime.engine.threads import Threads

Answer = list[Tensor] | RequestError
PATIENCE = 60


class Doubler:
    """y = 2 x, row by row; fails on negative numbers. `gate` holds runs up where it is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.rows: list[int] = []
        self.where: list[str] = []

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        (x,) = inputs
        self.rows.append(len(x.array))
        self.where.append(threading.current_thread().name)
        assert self.gate.wait(PATIENCE)
        if (x.array < 0).any():
            raise RequestError(Code.INTERNAL, "I do not like negative numbers")
        return [Tensor("y", Datatype.FP32, x.array * 2)]


def queue(quick: bool, **limits: float) -> Queue:
    """Return a queue that takes the model for quick, or for slow."""
    waiting = Queue(Limits(**{"max_delay": 0.0, **limits}))  # type: ignore[arg-type] # numbers
    seconds = 0.0001 if quick else 1.0
    waiting.expect({1: seconds, 32: seconds})
    return waiting


class Bench:
    """A batcher in the running loop, and the answers to what was asked."""

    def __init__(self, model: Doubler, waiting: Queue, threads: Threads | None = None) -> None:
        self.ran: list[int] = []
        self.batcher = Batcher(
            model,
            ModelDescription("test", "test", None),
            waiting,
            asyncio.get_running_loop(),
            threads=threads or Threads(),
            ran=lambda rows, seconds: self.ran.append(rows),
        )
        self.jobs: list[Job] = []

    def ask(self, *rows: float, deadline: float | None = None) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        x = Tensor("x", Datatype.FP32, np.array(rows, np.float32).reshape(-1, 1))
        job = Job((x,), answer.set_result, deadline)
        self.jobs.append(job)
        self.batcher.submit(job)
        return answer


async def values(answer: asyncio.Future[Answer]) -> list[float]:
    result = await asyncio.wait_for(answer, PATIENCE)
    assert isinstance(result, list), result
    return [float(value) for value in result[0].array.reshape(-1)]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("quick", [True, False])
async def test_what_comes_in_one_turn_of_the_loop_runs_together(quick: bool) -> None:
    model = Doubler()
    bench = Bench(model, queue(quick))
    answers = [bench.ask(1), bench.ask(2, 3), bench.ask(4)]
    assert [await values(answer) for answer in answers] == [[2], [4, 6], [8]]
    assert model.rows == bench.ran == [4]
    assert (model.where == ["MainThread"]) is quick
    assert [job.batch for job in bench.jobs] == [4, 4, 4]
    assert all(job.arrived <= job.started <= job.ended for job in bench.jobs)


async def test_what_comes_while_the_model_runs_is_the_next_batch() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=False))
    model.gate.clear()
    first = bench.ask(1)
    await until(lambda: model.rows == [1])
    others = [bench.ask(float(number)) for number in range(5)]
    await asyncio.sleep(0)
    model.gate.set()
    assert await values(first) == [2]
    assert [await values(answer) for answer in others] == [[0], [2], [4], [6], [8]]
    assert model.rows == [1, 5]


@pytest.mark.parametrize("quick", [True, False])
async def test_a_request_at_fault_fails_alone(quick: bool) -> None:
    bench = Bench(Doubler(), queue(quick))
    answers = [bench.ask(float(number)) for number in (1, 2, -3, 4, 5)]
    results = [await asyncio.wait_for(answer, PATIENCE) for answer in answers]
    assert [isinstance(result, RequestError) for result in results] == [False, False, True, False, False]
    assert [await values(answers[number]) for number in (0, 1, 3, 4)] == [[2], [4], [8], [10]]


async def test_a_model_that_breaks_in_an_unforeseen_way_is_answered_for() -> None:
    class Broken(Doubler):
        def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
            raise ZeroDivisionError("of all things")

    answer = await asyncio.wait_for(Bench(Broken(), queue(quick=True)).ask(1), PATIENCE)
    assert isinstance(answer, RequestError)
    assert answer.code is Code.INTERNAL
    assert answer.message == "the model failed: ZeroDivisionError: of all things"


async def test_who_has_left_is_not_run_and_not_told() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=False))
    model.gate.clear()
    running, gone, stays = bench.ask(1), bench.ask(2), bench.ask(3)
    await until(lambda: model.rows == [3])  # all three came together: nobody is busy yet
    waiting, leaves = bench.ask(4), bench.ask(5)
    for job in (bench.jobs[1], bench.jobs[4]):  # one that runs already, one that waits
        job.cancelled = True
        bench.batcher.cancel(job)
    assert bench.batcher.waiting == 1
    model.gate.set()
    assert [await values(answer) for answer in (running, stays, waiting)] == [[2], [6], [8]]
    assert model.rows == [3, 1]
    assert not gone.done()
    assert not leaves.done()


async def test_a_deadline_that_passes_in_the_queue_is_told_though_the_model_is_busy() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=False))
    model.gate.clear()
    first = bench.ask(1)
    await until(lambda: model.rows == [1])
    late = await asyncio.wait_for(bench.ask(2, deadline=time.monotonic() + 0.01), PATIENCE)
    assert isinstance(late, RequestError)
    assert late.code is Code.DEADLINE_EXCEEDED
    model.gate.set()
    assert await values(first) == [2]
    assert model.rows == [1]


async def test_runs_beside_each_other() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=False, max_rows=1), Threads(runners=3))
    model.gate.clear()
    answers = [bench.ask(float(number)) for number in range(4)]
    await until(lambda: len(model.rows) == 3)
    assert bench.batcher.waiting == 1
    model.gate.set()
    assert [await values(answer) for answer in answers] == [[0], [2], [4], [6]]
    assert len(set(model.where)) == 3
    assert model.rows == [1, 1, 1, 1]


async def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=False, min_waiting=3))
    model.gate.clear()
    first = bench.ask(0)
    await until(lambda: model.rows == [1])
    waiting = [bench.ask(float(number)) for number in range(3)]
    with pytest.raises(RequestError, match="3 requests are waiting already") as caught:
        bench.ask(9)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 1
    model.gate.set()
    for answer in (first, *waiting):
        await values(answer)


async def test_a_deadline_that_passed_while_the_loop_was_busy_costs_no_run() -> None:
    model = Doubler()
    bench = Bench(model, queue(quick=True))
    deadline = time.monotonic() + 0.005
    late, kept = bench.ask(1, deadline=deadline), bench.ask(2)
    while time.monotonic() <= deadline:
        pass  # the loop comes to nothing else, its timers included
    answer = await asyncio.wait_for(late, PATIENCE)
    assert isinstance(answer, RequestError)
    assert answer.code is Code.DEADLINE_EXCEEDED
    assert await values(kept) == [4]
    assert model.rows == [1]
