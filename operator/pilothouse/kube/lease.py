"""Leader election on a coordination.k8s.io/v1 Lease, so that two operators can run and one of them works.

The protocol is that of client-go (tools/leaderelection), with which it can share a Lease. Time is measured here,
from when a change of the Lease was seen, and never read from the Lease: clocks of two machines may differ.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from pilothouse.control.errors import GoneError, PilothouseError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.clock import moment
from pilothouse.plan.seen import Away, Json

log = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """Somebody else may lead from now on: stop writing at once."""


@dataclass(frozen=True)
class LeaseTimes:
    """Durations in seconds, as client-go names and sets them."""

    lease_duration: float = 15.0
    """Others take over when they have seen no renewal for so long."""
    renew_deadline: float = 10.0
    """The leader gives up when it could not renew for so long; less than `lease_duration`."""
    retry_period: float = 2.0
    """Between two attempts to get or to renew the Lease."""


class Elector:
    """One candidate. `acquire`, then `hold` for as long as the work goes on, then `release`.

    Attributes:
        identity: what it writes into the Lease; no two candidates have the same.
        leading: whether this candidate holds the Lease.
        connected: whether the Lease could be looked at yet.
        complaint: what went wrong at the last attempt; empty where nothing did.
        away: from the last renewal that any candidate made until this one first held the Lease; None before, and where
            there was no Lease. Read from the Lease, so as true as the clocks agree: good for patience, not for safety.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        *,
        identity: str | None = None,
        times: LeaseTimes = LeaseTimes(),
    ) -> None:
        self.identity = identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self.leading = False
        self.connected = False
        self.complaint = ""
        self.away: Away | None = None
        self._client = client
        self._namespace = namespace
        self._name = name
        self._times = times
        self._rng = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._seen_spec: Json = {}
        self._seen_at = 0.0

    async def acquire(self) -> None:
        """Wait until this candidate leads. What goes wrong meanwhile is logged and tried again."""
        log.info("waiting for the lease %s/%s as %s", self._namespace, self._name, self.identity)
        await self._until_held()
        self.leading = True
        log.info("leading")

    async def hold(self) -> NoReturn:
        """Renew the Lease again and again.

        Raises:
            LeadershipLostError: it could not be renewed in time, or somebody else has it.
        """
        try:
            while True:
                async with asyncio.timeout(self._times.renew_deadline):
                    await self._until_held()
                await asyncio.sleep(self._times.retry_period)
        except TimeoutError:
            raise LeadershipLostError(
                f"the lease {self._namespace}/{self._name} could not be renewed "
                f"for {self._times.renew_deadline:g} s"
            ) from None
        finally:
            self.leading = False

    async def release(self) -> None:
        """Give the Lease up, so that another candidate need not wait for it to run out. Never raises."""
        try:
            async with asyncio.timeout(self._times.retry_period):
                lease = await self._client.get(self._path)
                if lease["spec"].get("holderIdentity") == self.identity:
                    freed = {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._write(lease, self._spec(lease) | freed)
        except (PilothouseError, TimeoutError) as error:
            log.warning("the lease was not released, and runs out by itself: %s", error)

    @property
    def _path(self) -> str:
        return paths.item("Lease", self._namespace, self._name)

    async def _until_held(self) -> None:
        while True:
            if await self._tried():
                return
            await asyncio.sleep(self._times.retry_period * self._rng.uniform(1.0, 1.2))

    async def _tried(self) -> bool:
        """Make one attempt; half the deadline, so that a dead connection leaves time for a second one."""
        try:
            async with asyncio.timeout(self._times.renew_deadline / 2):
                held = await self._acquire_or_renew()
        except (PilothouseError, TimeoutError) as error:
            complaint = str(error) or "no answer in time"
            # An outage is told once, and not every two seconds.
            level = logging.DEBUG if complaint == self.complaint else logging.WARNING
            log.log(level, "lease %s/%s: %s", self._namespace, self._name, complaint)
            self.complaint = complaint
            return False
        self.complaint = ""
        return held

    async def _acquire_or_renew(self) -> bool:
        try:
            lease = await self._client.get(self._path)
        except GoneError:
            lease = None
        self.connected = True
        if lease is None:
            await self._create()
            return True
        spec: Json = lease.get("spec") or {}
        if spec != self._seen_spec:
            self._seen_spec, self._seen_at = spec, time.monotonic()
        holder = spec.get("holderIdentity") or ""
        if self.leading and holder != self.identity:
            raise LeadershipLostError(
                f"the lease {self._namespace}/{self._name} was taken by {holder or 'nobody'}"
            )
        duration = float(spec.get("leaseDurationSeconds") or self._times.lease_duration)
        if holder not in ("", self.identity) and time.monotonic() < self._seen_at + duration:
            return False
        # The resourceVersion goes along: of two candidates that come to this line at once, one gets a conflict.
        await self._write(lease, self._spec(lease))
        if self.away is None and (renewed := spec.get("renewTime")):
            self.away = Away(moment(renewed), datetime.now(UTC))
        return True

    async def _create(self) -> None:
        lease: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec({}),
        }
        await self._client.request("POST", paths.collection("Lease", self._namespace), body=lease)

    async def _write(self, lease: Json, spec: Json) -> None:
        await self._client.request("PUT", self._path, body=lease | {"spec": spec})

    def _spec(self, lease: Json) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = lease.get("spec") or {}
        mine = old.get("holderIdentity") == self.identity
        transitions = int(old.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._times.lease_duration)),
            "acquireTime": (mine and old.get("acquireTime")) or now,
            "renewTime": now,
            "leaseTransitions": transitions if mine or not old else transitions + 1,
        }
