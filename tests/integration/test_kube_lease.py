"""Leader election at a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dev.cluster import Cluster
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.kube.lease import Elector, LeadershipLostError, LeaseTimes
from pilothouse.plan.seen import Json
from tests.support import control_plane
from tests.support.outage import Proxy, cuttable
from tests.support.waiting import eventually

NAME = "pilothouse-operator"
QUICK = LeaseTimes(lease_duration=4, renew_deadline=3, retry_period=0.2)
# Whoever waits for this one to run out waits longer than any test.
SLOW = LeaseTimes(lease_duration=3600, renew_deadline=1800, retry_period=0.2)


async def lease(client: Client, namespace: str) -> Json:
    body = await control_plane.get(client, "Lease", namespace, NAME)
    assert body is not None
    return dict(body["spec"])


async def test_of_many_one_leads_and_the_next_follows_when_it_is_killed(
    client: Client, namespace: str
) -> None:
    electors = [Elector(client, namespace, NAME, identity=f"e{n}", times=QUICK) for n in range(3)]
    alive = {e.identity: asyncio.create_task(lead(e)) for e in electors}
    led: list[str] = []
    for _ in electors:
        await eventually(lambda: any(e.leading for e in electors))
        leaders = [e.identity for e in electors if e.leading]
        assert len(leaders) == 1
        assert (await lease(client, namespace))["holderIdentity"] == leaders[0]
        led += leaders
        await kill(alive.pop(leaders[0]))
    assert sorted(led) == ["e0", "e1", "e2"]
    assert (await lease(client, namespace))["leaseTransitions"] == 2


async def lead(elector: Elector) -> None:
    await elector.acquire()
    await elector.hold()


async def kill(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_released_lease_is_free_at_once(client: Client, namespace: str) -> None:
    first, second = (
        Elector(client, namespace, NAME, identity=name, times=SLOW) for name in ("first", "second")
    )
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await eventually(lambda: second.connected)
    assert not waiting.done()
    await first.release()
    await asyncio.wait_for(waiting, 30)
    assert (await lease(client, namespace))["holderIdentity"] == "second"
    assert first.away is None, "there was no lease, so nobody was away"
    assert second.away is not None
    assert second.away.since < second.away.until < datetime.now(UTC)


async def test_what_is_not_ours_is_not_released(client: Client, namespace: str) -> None:
    first, second = (
        Elector(client, namespace, NAME, identity=name, times=SLOW) for name in ("first", "second")
    )
    await first.acquire()
    await second.release()
    assert (await lease(client, namespace))["holderIdentity"] == "first"


async def test_the_clock_of_another_machine_does_not_count(client: Client, namespace: str) -> None:
    year = timedelta(days=365)
    await asyncio.gather(*(outlast(client, namespace, off) for off in (-year, year)))


async def outlast(client: Client, namespace: str, off: timedelta) -> None:
    """See that a holder whose clock is `off` keeps the lease while it renews it, and loses it when it stops."""
    name, stamp = f"off-by{off.days}", datetime.now(UTC) + off
    body: Json = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"holderIdentity": "theirs", "leaseDurationSeconds": 4, "renewTime": micro(stamp)},
    }
    await control_plane.create(client, body)
    elector = Elector(client, namespace, name, times=QUICK)
    waiting = asyncio.create_task(elector.acquire())
    for _ in range(6):  # renewed for longer than it lasts
        await asyncio.sleep(1)
        assert not waiting.done()
        stamp += timedelta(seconds=1)
        body["spec"]["renewTime"] = micro(stamp)
        await control_plane.replace(client, body)
    await asyncio.wait_for(waiting, 30)


def micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_a_leader_whose_lease_was_taken_is_told(client: Client, namespace: str) -> None:
    elector = Elector(client, namespace, NAME, times=SLOW)
    await elector.acquire()
    holding = asyncio.create_task(elector.hold())
    body = await client.get(paths.item("Lease", namespace, NAME))
    body["spec"]["holderIdentity"] = "usurper"
    await control_plane.replace(client, body)
    with pytest.raises(LeadershipLostError, match="usurper"):
        await asyncio.wait_for(holding, 30)
    assert not elector.leading


@pytest.fixture
async def way(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Proxy, Client]]:
    """A way to the API server that can be cut, and a client that goes it."""
    async with cuttable(cluster.kubeconfig, tmp_path) as (proxy, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        async with await Client.connect() as client:
            yield proxy, client


async def test_a_leader_that_cannot_renew_is_told_before_others_may_lead(
    way: tuple[Proxy, Client], client: Client, namespace: str
) -> None:
    proxy, cut_off = way
    first = Elector(cut_off, namespace, NAME, identity="first", times=QUICK)
    second = Elector(client, namespace, NAME, identity="second", times=QUICK)
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    following = asyncio.create_task(second.acquire())
    await proxy.cut()
    with pytest.raises(LeadershipLostError, match="could not be renewed"):
        await asyncio.wait_for(holding, 30)
    assert not second.leading
    await asyncio.wait_for(following, 30)


async def test_a_short_outage_costs_no_leadership(way: tuple[Proxy, Client], namespace: str) -> None:
    proxy, cut_off = way
    elector = Elector(
        cut_off, namespace, NAME, times=LeaseTimes(lease_duration=60, renew_deadline=40, retry_period=0.2)
    )
    await elector.acquire()
    holding = asyncio.create_task(elector.hold())
    before = (await lease(cut_off, namespace))["renewTime"]
    await proxy.cut()
    await asyncio.sleep(1)
    await proxy.start()

    async def renewed() -> bool:
        return bool((await lease(cut_off, namespace))["renewTime"] > before)

    await eventually(renewed)
    assert elector.leading
    assert not holding.done()
    await kill(holding)
