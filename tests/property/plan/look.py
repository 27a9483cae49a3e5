"""One look at the whole world, for comparing what was before a move with what is after it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from math import inf

from pilothouse.api import names
from pilothouse.api.rollout import Strategy
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.seen import Json, controller_uid
from tests.property.plan.story import Nature
from tests.support.memory_cluster import Ref
from tests.support.played_pods import is_ready
from tests.support.world import World


@dataclass(frozen=True)
class Look:
    """The world at one moment.

    Attributes:
        time: when it is.
        users_part: all of the object that is not the operator's.
        mix: ready pods by revision that the model's Service sends requests to.
        lasting: those of them that stay, as the Deployments are now.
        ready: ready pods by revision.
        staying: those of them that stay.
        asked: pods that each Deployment asks for.
        told: pods by revision that nodes are told to send requests of the model's users to.
        known: ready pods by revision of which nodes are told that they are, by the revision's own Service.
    """

    time: datetime
    status: Json
    spec: ModelDeploymentSpec
    target: str
    generation: int
    users_part: Json
    mix: Counter[str]
    lasting: Counter[str]
    ready: Counter[str]
    staying: Counter[str]
    asked: dict[str, int]
    told: Counter[str]
    known: Counter[str]

    @property
    def rollout(self) -> Json:
        return dict(self.status.get("rollout") or {})

    @property
    def stable(self) -> str | None:
        return self.status.get("stableRevision") or None

    @property
    def replicas(self) -> int:
        """How many pods are to serve."""
        return self.spec.replicas

    @property
    def surge(self) -> int | None:
        """How many pods there may be beyond those, where that is less than as many again."""
        rollout = self.spec.rollout
        limited = rollout.strategy is Strategy.ROLLING_UPDATE and rollout.surge is not None
        return rollout.surge if limited and (rollout.surge or 0) < self.replicas else None

    def weight(self, step: int) -> int:
        """Return the weight of a canary's step, counted from 1; before the first it is 0."""
        given = [s.weight for s in self.spec.rollout.steps[: max(step, 0)] if s.weight is not None]
        return given[-1] if given else 0

    def condition(self, kind: str) -> Json:
        return next((c for c in self.status.get("conditions", ()) if c["type"] == kind), {})

    def state(self, revision: str) -> str:
        """Return the state of a revision; "" where it is not known."""
        found = (e["state"] for e in self.status.get("revisions", ()) if e["name"] == revision)
        return next(found, "")


@dataclass
class Known:
    """What is true whatever the status says.

    Attributes:
        natures: what each revision is like.
        reports: what the validations of each revision came to.
        served: revisions that have been promoted once.
        answered: when each revision was last behind the Service.
        promotions: values of the promote commands that were given, without tokens other than "full".
    """

    natures: dict[str, Nature] = field(default_factory=dict)
    reports: dict[str, list[float]] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    answered: dict[str, datetime] = field(default_factory=dict)
    promotions: set[tuple[str, str]] = field(default_factory=set)

    def quiet_for(self, revision: str, now: datetime) -> float:
        """Return for how many seconds a revision has had no requests."""
        return (now - self.answered[revision]).total_seconds() if revision in self.answered else inf

    def by_hand(self, revision: str, *tokens: str) -> bool:
        """Whether the user ever asked for the promotion of a revision, with one of these tokens if any are given."""
        return any(name == revision and (not tokens or token in tokens) for name, token in self.promotions)


def look(world: World) -> Look:
    """Look at the world as it is now."""
    body = world.body
    objects = world.cluster.objects
    mix: Counter[str] = Counter()
    lasting: Counter[str] = Counter()
    ready: Counter[str] = Counter()
    asked: dict[str, int] = {}
    behind = world.selected(world.key.name)
    for ref, deployment in objects.items():
        if ref.kind == "Deployment":
            asked[ref.name] = deployment["spec"]["replicas"]
    for pod in behind:
        mix[pod["metadata"]["labels"][names.LABEL_REVISION]] += 1
    for revision, count in mix.items():
        lasting[revision] = _lasting(world, revision, count)
    for ref, pod in objects.items():
        if ref.kind == "Pod" and is_ready(pod) and "deletionTimestamp" not in pod["metadata"]:
            ready[pod["metadata"]["labels"].get(names.LABEL_REVISION, "")] += 1
    meta = {field: value for field, value in body["metadata"].items() if field != "resourceVersion"}
    return Look(
        time=world.time,
        status=body.get("status") or {},
        spec=_parsed(json.dumps(body["spec"])),
        target=world.revision(body["spec"]),
        generation=body["metadata"]["generation"],
        users_part={"metadata": meta, "spec": body["spec"]},
        mix=mix,
        lasting=lasting,
        ready=ready,
        staying=Counter({name: _lasting(world, name, count) for name, count in ready.items() if name}),
        asked=asked,
        told=_named(world, world.key.name),
        known=Counter({name: count for name in ready if (count := _named(world, name)[name])}),
    )


def _named(world: World, service: str) -> Counter[str]:
    """Return how many pods of each revision the EndpointSlice of a Service names as ready."""
    piece = world.child("EndpointSlice", f"{service}-slice")
    named = (
        {e["targetRef"]["uid"] for e in piece["endpoints"] if e["conditions"]["ready"]} if piece else set()
    )
    pods = (body for ref, body in world.cluster.objects.items() if ref.kind == "Pod")
    behind = (pod["metadata"]["labels"] for pod in pods if pod["metadata"]["uid"] in named and is_ready(pod))
    return Counter(labels[names.LABEL_REVISION] for labels in behind)


def _lasting(world: World, revision: str, behind: int) -> int:
    """Return how many of a revision's pods behind the Service its Deployment leaves alive, at worst."""
    deployment = world.cluster.objects.get(Ref("Deployment", world.key.namespace, revision))
    if deployment is None:
        return 0
    pods = world.nodes.pods(revision)
    orphans = [pod for pod in pods if controller_uid(pod) != deployment["metadata"]["uid"]]
    unready = sum(not is_ready(pod) for pod in pods)
    surplus = max(len(pods) - len(orphans) - deployment["spec"]["replicas"] - unready, 0)
    return max(behind - sum(map(is_ready, orphans)) - surplus, 0)


@lru_cache(maxsize=512)
def _parsed(spec: str) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate_json(spec)
