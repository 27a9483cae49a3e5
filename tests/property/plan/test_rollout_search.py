"""Search for a story in which a rollout loses traffic, tells a lie or never ends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings

from pilothouse.plan.seen import Json
from tests.property.plan.stories import blue_green, canaries, changes, rolling, stories, unaided
from tests.property.plan.story import Change, Eve, Late, Line, Nature, Way, Work
from tests.property.plan.watched import Watched
from tests.support.world import model

# A story takes a fifth of a second, so there are fewer of them than of other examples; at night, all there is time for.
_SOME = settings(max_examples=settings.default.max_examples // 2, report_multiple_bugs=False)
pytestmark = pytest.mark.timeout(0)

# Version 0 serves before a story begins; versions 1 to 3 are the story's.
_FIRST = Change(0, 2, Way(), Nature())
_LAST = 4
# Seconds within which a good revision must have come to serve: its steps, an old Job's end, 30 s for old pods.
_TIME_TO_THE_END = 400.0


@_SOME
@given(story=stories, ending=unaided)
def test_any_story_keeps_its_traffic_and_ends_well(story: list[Line], ending: Way) -> None:
    asyncio.run(_told(story, ending, served=False))


@_SOME
@given(opening=changes(canaries), story=stories, ending=unaided)
def test_stories_of_canaries_end_well(opening: Change, story: list[Line], ending: Way) -> None:
    asyncio.run(_told([opening, *story], ending))


@_SOME
@given(opening=changes(blue_green), story=stories, ending=unaided)
def test_stories_of_blue_and_green_end_well(opening: Change, story: list[Line], ending: Way) -> None:
    asyncio.run(_told([opening, *story], ending))


@_SOME
@given(opening=changes(rolling), story=stories, ending=unaided)
def test_stories_of_rolling_updates_end_well(opening: Change, story: list[Line], ending: Way) -> None:
    asyncio.run(_told([opening, *story], ending))


@_SOME
@given(opening=changes(), story=stories, ending=unaided)
def test_stories_in_which_nodes_are_told_late_end_well(
    opening: Change, story: list[Line], ending: Way
) -> None:
    # For longer than old pods have to drain.
    asyncio.run(_told([opening, Eve(), Late(True), Work(8, 4, 10), *story], ending))


async def _told(story: list[Line], ending: Way, *, served: bool = True) -> None:
    world = Watched()
    try:
        await world.tell([_FIRST])
        if served:
            await world.work(8)
        await world.tell(story)
        await _ends_well(world, ending)
    except BaseException as end:
        world.print_story(end)
        raise


async def _ends_well(world: Watched, ending: Way) -> None:
    """Whatever happened: once everything works, a new last spec comes to serve, and nothing else is left or done."""
    last = Change(_LAST, 2, ending, Nature())
    world.begin(f"from now on everything works; {last}")
    world.heal()
    world.change(last)
    revision = world.revision({"model": model(str(_LAST))})
    async for _ in world.go_on(_TIME_TO_THE_END):
        if world.is_true("Ready"):
            break
    assert world.is_true("Ready"), "it never becomes ready"
    assert dict(world.mix) == {revision: 2}
    world.begin("a minute goes by, in which old pods end")
    async for _ in world.go_on(70):
        pass
    _only_live_revisions_have_children(world, revision)
    world.begin("an hour goes by")
    writes = dict(world.cluster.writes)
    await world.wait(3600)
    assert dict(world.cluster.writes) == writes, "an unchanged object costs no write"


def _only_live_revisions_have_children(world: Watched, revision: str) -> None:
    """Old revisions run nothing and are reached by nothing; what is remembered of them is what the status names."""
    assert world.children("Deployment") == {revision}
    assert world.children("Service") - {f"{world.key.name}-preview"} == {world.key.name, revision}
    assert world.children("Job") <= {revision}
    assert world.children("ControllerRevision") <= {e["name"] for e in world.status["revisions"]}
    assert {pod["metadata"]["annotations"].get("deployment", revision) for pod in _pods(world)} == {revision}


def _pods(world: Watched) -> list[Json]:
    return [body for ref, body in world.cluster.objects.items() if ref.kind == "Pod"]
