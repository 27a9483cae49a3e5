"""The workers: nothing is lost when a pass fails, when a pass is a bug, or when the operator stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pilothouse.control.controller import Controller
from pilothouse.control.errors import TransientError
from pilothouse.control.reconciler import Reconciler
from pilothouse.plan.seen import Key, Seen
from tests.support.memory_cluster import Fault
from tests.support.waiting import eventually
from tests.support.world import SilentTelemetry, World, model


@contextlib.asynccontextmanager
async def running(reconciler: Reconciler) -> AsyncIterator[Controller]:
    controller = Controller(reconciler, SilentTelemetry())
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_one_event_is_enough_to_serve_a_model() -> None:
    world = World()
    world.apply(model=model("1"))
    async with running(world.operator) as controller:
        controller.enqueue(world.key)

        def ready() -> bool:
            world.nodes.step()
            return world.is_true("Ready")

        await eventually(ready)


async def test_passes_that_fail_are_made_again() -> None:
    world = World()
    world.apply(model=model("1"))
    for call in range(1, 4):
        world.cluster.faults[call] = Fault(TransientError("away"))
    async with running(world.operator) as controller:
        controller.enqueue(world.key)
        await eventually(lambda: world.status["observedGeneration"] == 1)


async def test_a_bug_with_one_object_does_not_stop_the_others() -> None:
    world = World()
    world.apply(model=model("1"))

    class Broken(Reconciler):
        async def _pass(self, key: Key) -> object:  # type: ignore[override]  # it never returns
            if key.name == "broken":
                raise ZeroDivisionError
            return await super()._pass(key)

    world.operator.__class__ = Broken
    async with running(world.operator) as controller:
        for _ in range(8):
            controller.enqueue(Key("vision", "broken"))
        controller.enqueue(world.key)
        await eventually(lambda: world.status["observedGeneration"] == 1)


async def test_stopping_lets_the_pass_in_flight_end() -> None:
    world = World()
    world.apply(model=model("1"))
    entered, leave = asyncio.Event(), asyncio.Event()
    observe = world.cluster.observe

    async def slow(key: Key) -> Seen | None:
        entered.set()
        await leave.wait()
        return await observe(key)

    world.cluster.observe = slow  # type: ignore[method-assign]  # the slow API server of this test
    controller = Controller(world.operator, SilentTelemetry())
    task = asyncio.create_task(controller.run())
    await asyncio.sleep(0)
    controller.enqueue(world.key)
    await entered.wait()
    task.cancel()
    leave.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert world.status["observedGeneration"] == 1, "the pass had begun, so its status is written"
