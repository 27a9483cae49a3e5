"""Requests go where EndpointSlices say, not where a selector or a pod says: rollouts wait for what nodes are told."""

from __future__ import annotations

from pilothouse.plan import endpoints
from pilothouse.plan.seen import Json, Seen
from tests.support.world import World, model
from tests.unit.plan.given import canary, served, weight

WAY = canary(weight(50, "1m"))


async def test_requests_are_not_moved_to_pods_that_nodes_have_not_been_told_of() -> None:
    world, first = await served(replicas=2)
    world.nodes.endpoints.away = True
    second = world.apply(model=model("2"), replicas=2)
    await world.wait(600)
    assert world.ready_pods(second) == 2
    assert (world.traffic, world.phase) == (first, "Progressing")
    told = world.condition("Ready")["message"]
    assert f"the EndpointSlices of Service {second} name 0 of them so far" in told
    world.nodes.endpoints.away = False
    await world.until(lambda: world.is_true("Ready"), limit=5)
    assert world.traffic == second


async def test_old_pods_stay_until_nodes_are_told_of_the_new_ones_alone() -> None:
    world, first = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=2)
    await world.until(lambda: world.phase == "Switching")
    world.nodes.endpoints.away = True
    await world.wait(600)
    assert (world.traffic, world.phase) == (second, "Switching")
    assert world.ready_pods(first) == 2
    assert (
        "the EndpointSlices of Service digits do not name its pods alone"
        in world.condition("Ready")["message"]
    )
    world.nodes.endpoints.away = False
    await world.until(lambda: world.is_true("Ready"), limit=5)
    await world.wait(25)
    assert world.ready_pods(first) == 2, "their connections have 30 s to end, from now on"
    await world.wait(10)
    assert world.child("Deployment", first) is None


async def test_what_failed_keeps_its_pods_while_nodes_send_requests_there() -> None:
    world, first = await served(replicas=2, rollout=WAY)
    second = world.apply(model=model("2"), replicas=2, rollout=WAY)
    await world.until(lambda: world.mix[second] > 0 and world.phase == "Shifting")
    await world.wait(5)
    world.nodes.endpoints.away = True
    world.command("abort", second)
    await world.wait(600)
    assert (world.traffic, world.entry(second)["state"]) == (first, "Failed")
    assert world.ready_pods(second) > 0
    world.nodes.endpoints.away = False
    await world.wait(5)
    assert world.ready_pods(second) == 0


async def test_a_step_counts_from_when_nodes_spread_the_requests() -> None:
    world, _ = await served(replicas=2, rollout=WAY)
    world.apply(model=model("2"), replicas=2, rollout=WAY)
    await world.until(lambda: bool(world.rollout.get("reached")))
    world.nodes.endpoints.away = True
    await world.wait(600)
    assert "inForceSince" not in world.rollout
    world.nodes.endpoints.away = False
    await world.until(lambda: "inForceSince" in world.rollout, limit=5)


async def test_where_there_is_no_room_old_pods_go_only_for_new_ones_that_nodes_know() -> None:
    world, first = await served(replicas=3, rollout={"surge": 1})
    second = world.apply(model=model("2"), replicas=3, rollout={"surge": 1})
    await world.until(lambda: world.traffic == "mixed")
    world.nodes.endpoints.away = True
    await world.wait(120)
    assert (world.pods_asked(first), world.ready_pods(second)) == (3, 1)
    world.nodes.endpoints.away = False
    await world.until(lambda: world.is_true("Ready"), limit=60)


async def test_a_model_without_pods_is_ready_once_nodes_are_told_of_none() -> None:
    world, _ = await served(replicas=2)
    second = world.apply(model=model("2"), replicas=0)
    await world.settle()
    assert (world.traffic, world.behind_traffic) == (second, 0)
    assert world.condition("Ready")["reason"] == "ScaledToZero"


async def test_a_first_model_is_ready_once_nodes_are_told_of_it() -> None:
    world = World()
    world.nodes.endpoints.away = True
    first = world.apply(model=model("1"))
    await world.wait(60)
    assert world.ready_pods(first) == 1
    assert not world.is_true("Ready")
    world.nodes.endpoints.away = False
    await world.until(lambda: world.is_true("Ready"), limit=5)


def seen_with(*slices: Json) -> Seen:
    """Return a look at a Service `digits` of ours with these EndpointSlices."""
    owner = {"uid": "model", "controller": True}
    meta = {"name": "digits", "namespace": "vision", "uid": "new", "ownerReferences": [owner]}
    body = {"metadata": {"name": "digits", "namespace": "vision", "uid": "model"}}
    return Seen(body, services=({"metadata": meta, "spec": {}},), slices=slices)


def piece(service: str, *pods: Json | None) -> Json:
    """Return an EndpointSlice of the Service with this uid."""
    owner = {"kind": "Service", "uid": service, "controller": True}
    return {"metadata": {"ownerReferences": [owner]}, "endpoints": list(pods) if pods else None}


def pod(uid: str, **conditions: bool) -> Json:
    return {"targetRef": {"uid": uid}, "conditions": conditions}


def test_slices_add_up_and_those_of_a_service_that_is_gone_say_nothing() -> None:
    v4 = piece("new", pod("a", ready=True), pod("b", ready=False), {"addresses": ["10.0.0.1"]})
    v6 = piece("new", pod("a", ready=True), pod("c"), {"targetRef": {"uid": "d"}})
    seen = seen_with(v4, v6, piece("old", pod("e", ready=True)), piece("new"))
    assert endpoints.named(seen, "digits") == {"a", "c", "d"}
    assert endpoints.named(seen, "unknown") == frozenset()
