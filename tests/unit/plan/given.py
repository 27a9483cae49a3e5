"""Where the short stories of rollouts begin, and words that many of them use."""

from __future__ import annotations

from typing import Any

from pilothouse.plan.seen import Json
from tests.support.world import World, model

VALIDATION: Json = {
    "uri": "http://models/golden.npz",
    "metric": "accuracy",
    "min": 0.95,
    "timeout": "2m",
}
ANALYSIS: Json = {"interval": "10s", "minRequests": 20, "maxErrorRate": "5%", "failureLimit": 2}


def canary(*steps: Json, **more: Any) -> Json:
    """Return a `spec.rollout` with these steps."""
    return {"strategy": "Canary", "steps": list(steps), **more}


def blue_green(**more: Any) -> Json:
    """Return a `spec.rollout` that comes up in full and switches once."""
    return {"strategy": "BlueGreen", **more}


def weight(share: int, lasts: str | None = None) -> Json:
    """Return a step with a weight."""
    return {"weight": share} if lasts is None else {"weight": share, "for": lasts}


def pause(share: int | None = None) -> Json:
    """Return a step that lasts until somebody promotes it."""
    return {"pause": True} if share is None else {"weight": share, "pause": True}


def analysis(**other: Any) -> Json:
    """Return an analysis that differs from `ANALYSIS` so."""
    return {**ANALYSIS, **other}


async def served(**spec: Any) -> tuple[World, str]:
    """Return a world in which version 1 serves."""
    world = World()
    first = world.apply(model=model("1"), **spec)
    await world.until(lambda: world.is_true("Ready"))
    return world, first


async def in_step(step: int, rollout: Json, **spec: Any) -> tuple[World, str, str]:
    """Return a world in which version 2 is in this step of its canary rollout and gets what that asks for."""
    world, first = await served(**spec)
    second = world.apply(model=model("2"), rollout=rollout, **spec)
    await world.until(lambda: in_force(world, step))
    return world, first, second


def in_force(world: World, step: int) -> bool:
    """Whether requests are spread as this step, counted from 1, asks."""
    return world.rollout.get("step") == step and "inForceSince" in world.rollout
