"""Search for a story in which a rollout loses traffic, tells a lie or never ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.control.errors import ConflictError, PilothouseError, TransientError
from pilothouse_runtime.contract import FailureReason, LastWords
from tests.support.memory_cluster import Fault
from tests.support.played_nodes import Fate, Kind
from tests.support.world import World, model

GOOD = Fate()
FATES = [
    GOOD,
    GOOD,
    Fate(Kind.RUNNING),
    Fate(Kind.PENDING),
    Fate(Kind.UNSCHEDULABLE),
    Fate(Kind.IMAGE_PULL_BACK_OFF),
    Fate(Kind.OUT_OF_MEMORY),
    Fate(Kind.QUOTA),
    Fate(Kind.CRASH, "Traceback ...\nRuntimeError: boom"),
    Fate(Kind.CRASH, LastWords(FailureReason.MODEL_DOWNLOAD_FAILED, "timed out", permanent=False).encode()),
    Fate(Kind.CRASH, LastWords(FailureReason.DIGEST_MISMATCH, "another digest", permanent=True).encode()),
]


@dataclass(frozen=True)
class Change:
    """The user applies a spec; the pods of its revision will have this fate."""

    version: int
    replicas: int
    fate: Fate


@dataclass(frozen=True)
class Work:
    """The operator and the nodes make some moves, so many seconds apart."""

    moves: int
    pods: int
    pause: int


@dataclass(frozen=True)
class Break:
    """The operator's n-th call from now fails, and perhaps it is killed and started anew."""

    call: int
    fault: Fault
    restart: bool


errors: st.SearchStrategy[PilothouseError] = st.sampled_from(
    [TransientError("away"), ConflictError("changed")]
)
changes = st.builds(Change, st.integers(1, 3), st.sampled_from([1, 2, 3, 0]), st.sampled_from(FATES))
work = st.builds(Work, st.integers(1, 12), st.integers(0, 4), st.sampled_from([0, 1, 10, 40, 400]))
breaks = st.builds(
    Break, st.integers(1, 9), st.builds(Fault, errors, st.sampled_from(["request", "answer"])), st.booleans()
)
stories = st.lists(st.one_of(changes, work, work, breaks), max_size=14)


class Watched(World):
    """A world in which the operator is watched at each move."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = 1

    async def move(self) -> None:
        """One pass, with everything that must hold around it."""
        before, old = self.behind_traffic, self.traffic
        stable = self.status.get("stableRevision")
        generation = self.status.get("observedGeneration", 0)
        await self.one_pass()
        after, status = self.behind_traffic, self.status
        if stable:
            assert after >= min(before, self.replicas), (
                f"the operator moved {old} with {before} ready pods to {self.traffic} with {after}"
            )
        if status["observedGeneration"] == 0:
            return
        assert status["observedGeneration"] >= generation, "observedGeneration went back"
        conditions = {c["type"]: c for c in status["conditions"]}
        assert {"Ready", "Available"} <= conditions.keys(), "kstatus takes an object without Ready for done"
        assert not {"Reconciling", "Stalled"} <= conditions.keys()
        assert (conditions["Ready"]["status"] == "True") is not bool(
            {"Reconciling", "Stalled"} & conditions.keys()
        )
        states = [e["state"] for e in status["revisions"]]
        assert states.count("Candidate") <= 1
        assert states.count("Stable") <= 1
        # A status of an older generation says so, and everybody who waits goes on waiting.
        told = status["observedGeneration"] == self.body["metadata"]["generation"]
        if told and conditions["Ready"]["status"] == "True":
            assert self.traffic == self.revision(self.body["spec"]), "Ready, but another revision serves"

    async def tell(self, story: list[Change | Work | Break]) -> None:
        for line in story:
            match line:
                case Change(version, replicas, fate):
                    self.replicas = replicas
                    revision = self.apply(model=model(str(version)), replicas=replicas)
                    if revision != self.status.get("stableRevision"):
                        self.fate(revision, fate)
                case Work(moves, pods, pause):
                    for _ in range(moves):
                        await self.move()
                        self.nodes.step(pods=pods)
                        self.sleep(pause)
                case Break(call, fault, restart):
                    self.cluster.faults[self.cluster.calls + call] = fault
                    if restart:
                        self.start_operator()


@given(story=stories)
def test_every_story_keeps_its_traffic_and_ends_well(story: list[Change | Work | Break]) -> None:
    async def run() -> None:
        world = Watched()
        world.apply(model=model("0"), replicas=1)
        await world.tell(story)
        # Everything works again: whatever happened, the last spec must come to serve. A revision that failed
        # stays so until the spec changes, so the last spec is a new one.
        world.cluster.faults.clear()
        world.nodes.fates.clear()
        last = world.apply(model=model("last"), replicas=2)
        for _ in range(60):
            await world.move()
            world.nodes.step()
            world.sleep(1)
            if world.is_true("Ready"):
                break
        assert world.is_true("Ready"), world.status
        assert world.traffic == last
        assert world.behind_traffic == 2
        await world.wait(60)
        running = {ref.name for ref in world.cluster.objects if ref.kind == "Deployment"}
        assert running == {last}, "old revisions must not be left running"
        writes = dict(world.cluster.writes)
        await world.wait(3600)
        assert dict(world.cluster.writes) == writes, "an unchanged object costs no write"

    asyncio.run(run())


def _final(world: World) -> object:
    """Return what must not depend on what went wrong on the way: everything but times and identities."""
    status = world.status
    return (
        status["stableRevision"],
        status["targetRevision"],
        [(e["name"], e["number"], e["state"]) for e in status["revisions"]],
        [(h["revision"], h["outcome"]) for h in status["history"]],
        sorted((ref.kind, ref.name) for ref in world.cluster.objects if ref.kind != "Pod"),
        world.traffic,
        world.behind_traffic,
    )


async def _rollout(call: int | None, fault: Fault) -> tuple[object, int]:
    """Roll out two versions, the n-th write of the operator failing and the operator then started anew.

    Returns how it ended, and how many writes there were.
    """
    world = World()
    world.cluster.faults_in_writes = {call: fault} if call else {}
    for version in ("1", "2"):
        world.apply(model=model(version), replicas=2)
        for _ in range(60):
            before = world.behind_traffic
            result = await world.one_pass()
            assert world.behind_traffic >= min(before, 2)
            if result.failed:
                world.start_operator()
            world.nodes.step()
            world.sleep(1)
    return _final(world), sum(world.cluster.writes.values()) - world.cluster.writes["event"]


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_killed_at_any_write_it_ends_the_same(lost: Literal["request", "answer"]) -> None:
    fault = Fault(TransientError("killed"), lost)
    wanted, writes = await _rollout(None, fault)
    assert writes >= 20
    for call in range(1, writes + 1):
        ended, _ = await _rollout(call, fault)
        assert ended == wanted, f"killed at write {call}"
