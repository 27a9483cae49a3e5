"""One ModelDeployment, its operator, its nodes and its clock, all played in memory and in virtual time."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pilothouse.api import names
from pilothouse.api.revision import revision_hash
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.control.reconciler import Reconciler, Result
from pilothouse.plan.seen import Away, Json, Key
from pilothouse.plan.template import Defaults
from pilothouse_runtime.contract import ValidationReport
from tests.support.memory_cluster import MemoryCluster, Ref
from tests.support.memory_listener import MemoryListener
from tests.support.memory_sampler import MemorySampler
from tests.support.played_nodes import PlayedNodes
from tests.support.played_pods import Fate, Kind, is_ready
from tests.support.played_traffic import PlayedTraffic, Temper

_START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
_MOST_PASSES = 1000
# So many passes in a row without any time between them are a loop that turns for nothing.
_MOST_AT_ONCE = 40
# The operator looks at everything this often even if nothing happens.
_RESYNC = 300.0


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


def validated(value: float, *, metric: str = "accuracy", seconds: float = 0.0) -> Fate:
    """Return the fate of a Job that carries out its validation and comes to this value."""
    report = ValidationReport(metric, value, rows=1000, message=f"{metric} {value:g} over 1000 rows")
    return Fate(Kind.DONE, report.encode(), seconds)


class World:
    """A cluster with one ModelDeployment `vision/digits`, whose users send `rate` requests a second.

    Time passes only in `sleep` and in what is built on it (`settle`, `wait`, `until`, `moves`); the nodes are played
    between the operator's passes, and requests come while time passes.
    """

    key = Key("vision", "digits")

    def __init__(self, runtime_image: str = "runtime:1", *, rate: float = 20.0) -> None:
        self.time = _START
        self.cluster = MemoryCluster(now=lambda: self.time)
        self.nodes = PlayedNodes(self.cluster)
        self.nodes.jobs.default = validated(0.99)
        self.users = PlayedTraffic(rate)
        self.listener = MemoryListener(self.cluster)
        self.statuses: list[Json] = []
        self.start_operator(runtime_image)

    def start_operator(self, runtime_image: str = "runtime:1", away: Away | None = None) -> None:
        """Start the operator anew, as after a crash or an upgrade: nothing in memory survives.

        Args:
            away: when no operator could look, as this one takes it from the lease.
        """
        self.operator = Reconciler(
            reader=self.cluster,
            applier=self.cluster,
            status_writer=self.cluster,
            recorder=self.cluster,
            telemetry=SilentTelemetry(),
            defaults=Defaults(runtime_image, prometheus=True),
            clock=lambda: self.time,
            sampler=MemorySampler(self.users, lambda: self.time),
            listener=self.listener,
            away=away,
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

    def patch(self, **spec: Any) -> str:
        """Change some fields of the spec and leave the others; return the name of the revision that it asks for."""
        return self.apply(**{**self.body["spec"], **spec})

    def scale(self, replicas: int) -> None:
        """Do what `kubectl scale` and a HorizontalPodAutoscaler do."""
        self.patch(replicas=replicas)

    def command(self, command: str, revision: str, token: str = "") -> None:
        """Do what `kubectl annotate --overwrite` does to give a command."""
        value = f"{revision}:{token}" if token else revision
        key = names.command_annotation(command)
        ref = Ref(names.KIND, *self.key)
        self.cluster.edit(
            ref, lambda body: body["metadata"].setdefault("annotations", {}).update({key: value})
        )

    def take_back(self, command: str) -> None:
        """Remove the annotation by which a command was given."""
        key = names.command_annotation(command)
        ref = Ref(names.KIND, *self.key)
        self.cluster.edit(ref, lambda body: body["metadata"].get("annotations", {}).pop(key, None))

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

    @property
    def rollout(self) -> Json:
        """What the status says of the rollout; empty where it says nothing."""
        return dict(self.status.get("rollout", {}))

    @property
    def phase(self) -> str:
        return str(self.rollout.get("phase", ""))

    def told(self, command: str) -> Json:
        """Return what the status says of a command; empty where it says nothing."""
        found = (dict(c) for c in self.status.get("commands", ()) if c["command"] == command)
        return next(found, {})

    # What is in the cluster.

    def child(self, kind: str, name: str) -> Json | None:
        return self.cluster.get(Ref(kind, self.key.namespace, name))

    def children(self, kind: str) -> set[str]:
        """Return the names of all objects of one kind."""
        return {ref.name for ref in self.cluster.objects if ref.kind == kind}

    @property
    def traffic(self) -> str:
        """The one revision whose pods the model's Service selects; "mixed" for several, "" without a Service."""
        service = self.child("Service", self.key.name)
        if service is None:
            return ""
        return str(service["spec"]["selector"].get(names.LABEL_REVISION, "mixed"))

    def selected(self, service: str) -> list[Json]:
        """Return the ready pods that a Service sends requests to, as the endpoints controller finds them."""
        live = self.cluster.objects.get(Ref("Service", self.key.namespace, service))
        if live is None:
            return []
        selector = live["spec"]["selector"].items()
        return [
            pod
            for ref, pod in self.cluster.objects.items()
            if ref.kind == "Pod"
            and selector <= pod["metadata"].get("labels", {}).items()
            and is_ready(pod)
            and "deletionTimestamp" not in pod["metadata"]
        ]

    @property
    def mix(self) -> Counter[str]:
        """How many ready pods of each revision the model's own Service sends requests to."""
        return Counter(p["metadata"]["labels"][names.LABEL_REVISION] for p in self.selected(self.key.name))

    def behind(self, revision: str) -> int:
        """Return how many ready pods of one revision get requests of the model's users."""
        return self.mix[revision]

    @property
    def behind_traffic(self) -> int:
        """How many ready pods the model's Service sends requests to."""
        return self.mix.total()

    def ready_pods(self, revision: str) -> int:
        """Return how many pods of a revision are ready and not being deleted."""
        return sum(map(is_ready, self.nodes.pods(revision)))

    def pods_asked(self, revision: str) -> int:
        """Return how many pods the revision's Deployment asks for; 0 where there is none."""
        deployment = self.child("Deployment", revision)
        return int(deployment["spec"]["replicas"]) if deployment else 0

    # What becomes of it.

    def fate(self, revision: str, fate: Fate) -> None:
        """Say what becomes of the pods of a revision."""
        self.nodes.fates[revision] = fate

    def job_fate(self, revision: str, fate: Fate) -> None:
        """Say what becomes of the Job that validates a revision."""
        self.nodes.jobs.fates[revision] = fate

    def temper(self, revision: str, temper: Temper) -> None:
        """Say how a revision answers its requests."""
        self.users.tempers[revision] = temper

    def evict(self, pod: Json) -> None:
        """Take a pod away, as a node does that goes."""
        self.cluster.delete(Ref("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"]))

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
            before = self.versions()
            result = await self.one_pass()
            self.nodes.step()
            changed = before != self.versions()
            if result.again is None and not result.failed and not changed:
                return
            if not changed and result.outcome in ("invalid", "blocked"):
                return
            due = pause(result, changed)
            if self.time + timedelta(seconds=due) > end:
                return
            self.sleep(due)
        raise AssertionError(f"not at rest after {_MOST_PASSES} passes: {self.status}")

    def sleep(self, seconds: float) -> None:
        """Let time go by while nobody does anything but send requests."""
        if seconds > 0:
            end = self.time + timedelta(seconds=seconds)
            self.users.flow(self.time, end, self.selected(self.key.name))
            self.time = end

    async def wait(self, seconds: float) -> None:
        """Let so many seconds go by, with everybody at work."""
        end = self.time + timedelta(seconds=seconds)
        await self.settle(limit=seconds)
        self.sleep((end - self.time).total_seconds())
        await self.one_pass()
        await self.one_pass()

    async def moves(self, seconds: float) -> AsyncIterator[None]:
        """Let so many seconds go by, with everybody at work; yield after each single thing that anybody did.

        Raises:
            AssertionError: the operator turns round and round without any time between.
        """
        end = self.time + timedelta(seconds=seconds)
        at_once = 0
        while self.time < end:
            before = self.versions()
            result = await self.one_pass()
            yield
            self.nodes.step()
            yield
            due = pause(result, before != self.versions())
            at_once = 0 if due > 0 else at_once + 1
            assert at_once < _MOST_AT_ONCE, f"a loop that turns for nothing: {self.status}"
            self.sleep(min(due, (end - self.time).total_seconds()))

    async def until(self, holds: Callable[[], bool], limit: float = 3600.0) -> None:
        """Let everybody work until something holds.

        Raises:
            AssertionError: it does not within `limit` seconds.
        """
        async for _ in self.moves(limit):
            if holds():
                return
        raise AssertionError(f"waited {limit:g} s in vain; mix: {dict(self.mix)}, status: {self.status}")

    def versions(self) -> dict[Ref, str]:
        """Return something that differs whenever anything in the cluster does."""
        return {ref: body["metadata"]["resourceVersion"] for ref, body in self.cluster.objects.items()}


def pause(result: Result, changed: bool) -> float:
    """Return after how many seconds the operator looks again: whatever changes wakes it as well."""
    if result.failed:
        return 1.0
    due = _RESYNC if result.again is None else result.again
    return min(due, 1.0) if changed else due
