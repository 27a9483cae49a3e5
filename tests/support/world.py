"""One ModelDeployment, its operator, its nodes and its clock, all played in memory and in virtual time."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pilothouse.api import names
from pilothouse.api.revision import revision_hash
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.control.reconciler import Reconciler, Result
from pilothouse.plan.seen import Json, Key
from pilothouse.plan.template import Defaults
from tests.support.memory_cluster import MemoryCluster, Ref
from tests.support.played_nodes import Fate, PlayedNodes

_START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
_MOST_PASSES = 400


class SilentTelemetry:
    """Counts nothing."""

    def reconciled(self, outcome: str, seconds: float) -> None: ...
    def queued(self, depth: int) -> None: ...
    def wrote(self, kind: str) -> None: ...
    def forget(self, key: Key) -> None: ...
    def observed(self, key: Key, ready: bool, available: bool) -> None: ...


def model(version: str, **more: Any) -> Json:
    """Return a `spec.model` that differs from that of every other version."""
    return {"uri": f"http://models/{version}.pt", "version": version, **more}


class World:
    """A cluster with one ModelDeployment `vision/digits`.

    Time passes only in `settle` and `wait`; the nodes are played between the operator's passes.
    """

    key = Key("vision", "digits")

    def __init__(self, runtime_image: str = "runtime:1") -> None:
        self.time = _START
        self.cluster = MemoryCluster(now=lambda: self.time)
        self.nodes = PlayedNodes(self.cluster)
        self.statuses: list[Json] = []
        self.start_operator(runtime_image)

    def start_operator(self, runtime_image: str = "runtime:1") -> None:
        """Start the operator anew, as after a crash or an upgrade: nothing in memory survives."""
        self.operator = Reconciler(
            reader=self.cluster,
            applier=self.cluster,
            status_writer=self.cluster,
            recorder=self.cluster,
            telemetry=SilentTelemetry(),
            defaults=Defaults(runtime_image),
            clock=lambda: self.time,
        )

    # What the user does and reads.

    def apply(self, **spec: Any) -> str:
        """Create the object, or replace its whole spec; return the name of the revision that it asks for."""
        ref = Ref(names.KIND, *self.key)
        if ref in self.cluster.objects:
            self.cluster.edit(ref, lambda body: body.update(spec=copy.deepcopy(spec)))
        else:
            self.cluster.create(
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "metadata": {"namespace": self.key.namespace, "name": self.key.name},
                    "spec": copy.deepcopy(spec),
                }
            )
        return self.revision(spec)

    def revision(self, spec: Json) -> str:
        """Return the name of the revision that a spec asks for; "" where the spec is invalid."""
        try:
            parsed = ModelDeploymentSpec.model_validate_json(json.dumps(spec))
        except ValueError:
            return ""
        return names.revision_name(self.key.name, revision_hash(parsed))

    @property
    def body(self) -> Json:
        body = self.cluster.get(Ref(names.KIND, *self.key))
        assert body is not None
        return body

    @property
    def status(self) -> Json:
        return dict(self.body.get("status", {}))

    def condition(self, kind: str) -> Json:
        """Return a condition, or an empty one where it is absent."""
        return next((c for c in self.status.get("conditions", ()) if c["type"] == kind), {})

    def is_true(self, kind: str) -> bool:
        return bool(self.condition(kind).get("status") == "True")

    def entry(self, revision: str) -> Json:
        """Return what the status says of a revision."""
        return next((dict(e) for e in self.status["revisions"] if e["name"] == revision), {})

    # What is in the cluster.

    def child(self, kind: str, name: str) -> Json | None:
        return self.cluster.get(Ref(kind, self.key.namespace, name))

    @property
    def traffic(self) -> str:
        """The revision that the model's Service points at; "" where there is no Service."""
        service = self.child("Service", self.key.name)
        return str(service["spec"]["selector"][names.LABEL_REVISION]) if service else ""

    def ready_pods(self, revision: str) -> int:
        """Return how many pods of a revision are ready and not being deleted."""
        return sum(
            any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in pod.get("status", {}).get("conditions", ())
            )
            for pod in self.nodes.pods(revision)
        )

    @property
    def behind_traffic(self) -> int:
        """How many ready pods the model's Service sends requests to."""
        return self.ready_pods(self.traffic)

    def fate(self, revision: str, fate: Fate) -> None:
        self.nodes.fates[revision] = fate

    # Time.

    async def one_pass(self) -> Result:
        """Let the operator make one pass."""
        result = await self.operator.reconcile(self.key)
        self.statuses.append(self.status)
        return result

    async def settle(self, *, limit: float = 24 * 3600) -> None:
        """Let everybody work until nothing changes any more, or `limit` seconds have gone by.

        Raises:
            AssertionError: it never comes to rest.
        """
        end = self.time + timedelta(seconds=limit)
        for _ in range(_MOST_PASSES):
            before = {ref: body["metadata"]["resourceVersion"] for ref, body in self.cluster.objects.items()}
            result = await self.one_pass()
            moved = self.nodes.step()
            after = {ref: body["metadata"]["resourceVersion"] for ref, body in self.cluster.objects.items()}
            if result.again is None and not result.failed and not moved and before == after:
                return
            if before == after and result.outcome in ("invalid", "blocked"):
                return
            pause = 1.0 if result.again is None else result.again
            if self.time + timedelta(seconds=pause) > end:
                return
            self.time += timedelta(seconds=pause)
        raise AssertionError(f"not at rest after {_MOST_PASSES} passes: {self.status}")

    def sleep(self, seconds: float) -> None:
        """Let time go by while nobody does anything."""
        self.time += timedelta(seconds=seconds)

    async def wait(self, seconds: float) -> None:
        """Let so many seconds go by, with everybody at work."""
        end = self.time + timedelta(seconds=seconds)
        await self.settle(limit=seconds)
        self.time = max(self.time, end)
        await self.one_pass()
        await self.one_pass()
