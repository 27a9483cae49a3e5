"""Whatever pods say of themselves, however often it changes: the status is written no more often than people read."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pilothouse_runtime.contract import Phase, PodReport
from tests.support.memory_listener import in_phase, ready
from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model

_REPORTS = st.one_of(
    st.none(),
    st.builds(in_phase, st.sampled_from(Phase), st.sampled_from(["", "1 of 9", "2 of 9"]), st.just(1.7e9)),
)
# What each of two pods says, and for how many seconds.
_WORDS = st.lists(st.tuples(_REPORTS, _REPORTS, st.sampled_from([0, 0, 0.3, 1, 2, 7])), max_size=40)
# Between two steps back there are at least so many seconds; times in a status are cut to whole seconds.
_SECONDS_BETWEEN = 4
_MOST_STEPS = 5  # from Starting to Warming, each told at once


@given(_WORDS)
def test_words_cost_few_writes_and_leave_nothing_behind(
    words: list[tuple[PodReport | None, PodReport | None, float]],
) -> None:
    asyncio.run(_told(words))


async def _told(words: list[tuple[PodReport | None, PodReport | None, float]]) -> None:
    world = World()
    revision = world.revision({"model": model("1")})
    world.fate(revision, Fate(Kind.RUNNING))
    world.listener.says[revision] = None
    world.apply(model=model("1"), replicas=2, rollout={"progressDeadline": "1h"})
    await world.wait(5)
    pods = [pod["metadata"]["name"] for pod in world.nodes.pods(revision)]
    writes, passed = world.cluster.writes["status"], 0.0
    for one, other, seconds in words:
        world.listener.own = dict(zip(pods, (one, other), strict=True))
        await world.one_pass()
        world.sleep(seconds)
        passed += seconds
    most = _MOST_STEPS * (1 + passed / _SECONDS_BETWEEN)
    assert world.cluster.writes["status"] - writes <= most
    world.listener.own = {}
    world.listener.says[revision] = ready(1.7e9)
    world.fate(revision, Fate())
    await world.until(lambda: world.is_true("Ready"))
    entry = world.entry(revision)
    assert "loading" not in entry
    assert [phase["phase"] for phase in entry["phases"]] == [
        "Starting",
        "Pulling",
        "Verified",
        "Loading",
        "Warming",
    ]
