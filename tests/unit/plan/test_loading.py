"""What the status says of pods that are not ready yet, and of how long those took that are."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.plan.clock import moment
from pilothouse.plan.seen import Json
from pilothouse_runtime.contract import Phase, PodReport
from tests.support.memory_listener import in_phase
from tests.support.played_pods import Fate, Kind
from tests.support.world import World, model
from tests.unit.plan.given import served

PHASES = [
    {"phase": "Starting", "took": "400ms"},
    {"phase": "Pulling", "took": "3.2s"},
    {"phase": "Verified", "took": "0ms"},
    {"phase": "Loading", "took": "12.0s"},
    {"phase": "Warming", "took": "500ms"},
]
WAITING = Fate(Kind.RUNNING)


async def waiting(report: PodReport | None, **spec: Any) -> tuple[World, str]:
    """Return a world whose first revision's pods run, say this, and do not become ready."""
    world = World()
    revision = world.revision({"model": model("1")})
    world.fate(revision, WAITING)
    world.listener.says[revision] = report
    world.apply(model=model("1"), **spec)
    await world.wait(10)
    return world, revision


def loading(world: World, revision: str) -> Json:
    return dict(world.entry(revision).get("loading", {}))


async def test_what_pods_are_waited_for_to_do_is_told() -> None:
    report = in_phase(Phase.PULLING, "3 of 9 bytes of http://models/1.pt", since=1_767_268_805.7)
    world, revision = await waiting(report, replicas=2)
    shown = loading(world, revision)
    assert moment(shown.pop("observedAt")) <= world.time
    assert shown == {
        "phase": "Pulling",
        "message": "3 of 9 bytes of http://models/1.pt",
        "since": "2026-01-01T12:00:05Z",
        "pods": 2,
    }
    for kind in ("Ready", "Reconciling"):
        condition = world.condition(kind)
        assert condition["reason"] == "Progressing"
        assert condition["message"] == (
            f"revision {revision}, 0 of 2 pods ready: Pulling: 3 of 9 bytes of http://models/1.pt"
        )
    assert world.rollout["message"] == world.condition("Ready")["message"]


async def test_a_candidate_that_loads_is_told_of_beside_who_serves() -> None:
    world, first = await served()
    second = world.revision({"model": model("2")})
    world.fate(second, WAITING)
    world.listener.says[second] = in_phase(Phase.WARMING)
    world.apply(model=model("2"))
    await world.wait(10)
    assert loading(world, second)["phase"] == "Warming"
    assert "message" not in loading(world, second)
    assert (
        f"0 of 1 pods ready: Warming; revision {first} keeps the traffic"
        in world.condition("Ready")["message"]
    )
    assert world.entry(first)["phases"] == PHASES


async def test_a_pod_of_the_serving_revision_that_starts_anew_is_told_of() -> None:
    world, first = await served(replicas=2)
    pod = world.nodes.pods(first)[0]["metadata"]["name"]
    world.nodes.own_fates[pod] = WAITING
    world.listener.own[pod] = in_phase(Phase.LOADING, "starting PyTorch")
    await world.wait(60)
    assert world.condition("Ready")["message"].endswith("1 of 2 pods ready: Loading: starting PyTorch")
    assert world.entry(first)["phases"] == PHASES, "of its first start"
    del world.nodes.own_fates[pod]
    await world.wait(60)
    assert world.is_true("Ready")
    assert "loading" not in world.entry(first)


async def test_bytes_that_arrive_cost_a_write_every_five_seconds_at_most() -> None:
    world, revision = await waiting(None)
    del world.listener.says[revision]  # from now on each answer is another
    before, asked = world.cluster.writes["status"], world.listener.asked
    for _ in range(60):
        await world.one_pass()
        world.sleep(1)
    assert world.listener.asked - asked == 60
    assert 10 <= world.cluster.writes["status"] - before <= 12


async def test_a_later_phase_is_told_at_once_and_an_earlier_one_in_time() -> None:
    world, revision = await waiting(in_phase(Phase.PULLING, "a"))
    for phase, shown in (
        (Phase.LOADING, "Loading"),
        (Phase.WARMING, "Warming"),
        (Phase.PULLING, "Warming"),
        (Phase.WARMING, "Warming"),
    ):
        world.listener.says[revision] = in_phase(phase, "a")
        await world.one_pass()
        assert loading(world, revision)["phase"] == shown
        world.sleep(1)
    world.sleep(5)
    world.listener.says[revision] = in_phase(Phase.PULLING, "a")
    await world.one_pass()
    assert loading(world, revision)["phase"] == "Pulling"


async def test_phases_that_go_to_and_fro_make_no_loop_of_writes() -> None:
    world, revision = await waiting(in_phase(Phase.PULLING))
    before = world.cluster.writes["status"]
    for turn in range(100):
        phase = Phase.FAILED if turn % 3 == 0 else Phase.PULLING if turn % 2 else Phase.LOADING
        world.listener.says[revision] = in_phase(phase) if turn % 5 else None
        await world.one_pass()
    assert world.cluster.writes["status"] - before <= 1


async def test_the_least_advanced_pod_is_shown() -> None:
    world, revision = await waiting(in_phase(Phase.WARMING), replicas=4)
    pods = sorted(world.nodes.pods(revision), key=lambda pod: str(pod["metadata"]["uid"]))
    for pod, report in zip(
        pods,
        (
            in_phase(Phase.READY),  # the kubelet does not know it yet
            in_phase(Phase.PULLING, "first"),
            in_phase(Phase.PULLING, "second"),
            None,
        ),
        strict=True,
    ):
        world.listener.own[pod["metadata"]["name"]] = report
    world.sleep(5)
    await world.one_pass()
    shown = loading(world, revision)
    assert (shown["phase"], shown["message"], shown["pods"]) == ("Pulling", "first", 2)


async def test_pods_that_fall_silent_have_said_what_they_said() -> None:
    world, revision = await waiting(in_phase(Phase.PULLING, "3 of 9 bytes"))
    shown = loading(world, revision)
    before = world.cluster.writes["status"]
    world.listener.says[revision] = None
    await world.wait(60)
    assert loading(world, revision) == shown
    assert world.cluster.writes["status"] == before


async def test_a_cause_says_more() -> None:
    world, revision = await waiting(in_phase(Phase.PULLING, "3 of 9 bytes"), replicas=2)
    world.nodes.own_fates[world.nodes.pods(revision)[0]["metadata"]["name"]] = Fate(Kind.OUT_OF_MEMORY)
    await world.until(lambda: world.condition("Ready")["reason"] == "OutOfMemory")
    assert "Pulling" not in world.condition("Ready")["message"]
    assert loading(world, revision)["pods"] == 1


async def test_words_of_strangers_are_cut_to_what_a_status_holds() -> None:
    world, revision = await waiting(in_phase(Phase.PULLING, "all\nright " + "x" * 60_000))
    message = loading(world, revision)["message"]
    assert message.startswith("all right xxx")
    assert len(message) == 300


async def test_pods_that_know_no_such_path_lack_nothing() -> None:
    world, revision = await waiting(None)
    assert "loading" not in world.entry(revision)
    assert world.condition("Ready")["message"] == f"revision {revision}, 0 of 1 pods ready"
    world.fate(revision, Fate())
    await world.until(lambda: world.is_true("Ready"))
    assert not {"loading", "loadTime", "phases"} & set(world.entry(revision))
    asked = world.listener.asked
    await world.wait(3600)
    assert world.listener.asked == asked, "one that was ready is not asked for ever"


async def test_how_long_it_took_is_asked_once_and_kept() -> None:
    world, first = await served()
    entry = world.entry(first)
    assert entry["loadTime"] == "16.1s"
    assert entry["phases"] == PHASES
    assert "loading" not in entry
    asked, writes = world.listener.asked, dict(world.cluster.writes)
    world.start_operator()
    await world.wait(3600)
    assert world.entry(first)["phases"] == PHASES
    assert world.listener.asked == asked
    assert dict(world.cluster.writes) == writes


async def test_an_invalid_spec_takes_nothing_away() -> None:
    world, first = await served()
    world.apply(model={"uri": "ftp://nowhere"})
    await world.wait(60)
    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert world.entry(first)["phases"] == PHASES


async def test_a_new_try_is_asked_anew() -> None:
    world, first = await served()
    world.apply(model=model("2"))
    await world.until(lambda: world.is_true("Ready"))
    await world.wait(60)
    assert "phases" not in world.entry(first), "it is retired"
    world.listener.says[first] = None
    world.apply(model=model("1"))
    await world.until(lambda: world.is_true("Ready"))
    assert "phases" not in world.entry(first)


@pytest.mark.parametrize("lost", ["loading", "phases"])
async def test_what_somebody_took_out_of_the_status_breaks_nothing(lost: str) -> None:
    world, revision = await waiting(in_phase(Phase.PULLING, "3 of 9 bytes"))
    stored = next(
        iter(world.cluster.objects[ref] for ref in world.cluster.objects if ref.kind == "ModelDeployment")
    )
    stored["status"]["revisions"][0].pop(lost, None)
    world.fate(revision, Fate())
    await world.until(lambda: world.is_true("Ready"))
    assert "loading" not in world.entry(revision)
