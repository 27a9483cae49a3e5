"""What the guards of transitions look at: drawn once from what was seen, what is asked for and what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pilothouse.api.conditions import Phase
from pilothouse.api.durations import seconds
from pilothouse.api.names import LABEL_REVISION
from pilothouse.api.rollout import Strategy
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan import endpoints, routing
from pilothouse.plan.causes import Diagnosis, diagnose
from pilothouse.plan.clock import after, moment
from pilothouse.plan.routing import gate, step_weight
from pilothouse.plan.samples import Drifted, Samples, Source
from pilothouse.plan.seen import Json, Seen, is_ready
from pilothouse.plan.state import Rollout, State
from pilothouse.plan.weights import Split, split
from pilothouse_runtime.contract import PodReport

# Where old pods stand in the way of a mix of revisions, their connections have this long to end (seconds), even where
# scaleDownDelay, which also keeps the way back open, is longer.
_DRAIN_AT_LEAST = 30.0


def pods_of(seen: Seen, revision: str | None) -> list[Json]:
    """Return the pods of one revision that are not on their way out.

    Pods older than the Deployment are left over from an earlier try of the same revision: the garbage collector
    is about to take them, and neither their readiness nor their failure says anything about this one.
    """
    deployment = seen.deployment(revision or "")
    if deployment is None:
        return []
    born = moment(deployment["metadata"]["creationTimestamp"])
    return [
        p
        for p in _labelled(seen, revision)
        if "deletionTimestamp" not in p["metadata"] and moment(p["metadata"]["creationTimestamp"]) >= born
    ]


def _labelled(seen: Seen, revision: str | None) -> list[Json]:
    return [p for p in seen.pods if p["metadata"].get("labels", {}).get(LABEL_REVISION) == revision]


def sources(pods: Iterable[Json]) -> tuple[Source, ...]:
    """Return where to ask these pods; those that have no address yet are left out."""
    return tuple(
        Source(pod["metadata"]["uid"], pod["status"]["podIP"], moment(pod["metadata"]["creationTimestamp"]))
        for pod in pods
        if pod.get("status", {}).get("podIP")
    )


def desired_replicas(spec: ModelDeploymentSpec) -> int:
    """Return how many pods are to serve: what the spec says, within the autoscaler's bounds where there is one.

    Zero is zero: that is how an autoscaled model is switched off.
    """
    scaling = spec.autoscaling
    if scaling is None or spec.replicas == 0:
        return spec.replicas
    return min(max(spec.replicas, scaling.min_replicas), scaling.max_replicas)


def limited_surge(spec: ModelDeploymentSpec) -> int | None:
    """Return how many pods there may be beyond those that serve, or None where there is room for as many again."""
    surge = spec.rollout.surge
    if spec.rollout.strategy is not Strategy.ROLLING_UPDATE or surge is None:
        return None
    return surge if surge < desired_replicas(spec) else None


@dataclass(frozen=True)
class Facts:
    """One look, and what it is judged by; `reports` and `drift` are what pods said, by their uid."""

    seen: Seen
    spec: ModelDeploymentSpec
    target: str
    now: datetime
    samples: Samples | None = None
    reports: Mapping[str, PodReport] = field(default_factory=dict)
    drift: Mapping[str, Drifted] = field(default_factory=dict)
    _ready: dict[str | None, int] = field(default_factory=dict, compare=False)

    @property
    def replicas(self) -> int:
        return desired_replicas(self.spec)

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.seen.body["metadata"].get("annotations") or {}

    def ready(self, revision: str | None) -> int:
        """Return how many pods of a revision are ready, by the pods' own word."""
        if revision not in self._ready:
            self._ready[revision] = sum(map(is_ready, pods_of(self.seen, revision)))
        return self._ready[revision]

    def reachable(self, revision: str | None) -> int:
        """Return how many pods of a revision are ready and known to be: by the EndpointSlices of its own Service.

        These are the ones that requests can be moved to: see `pilothouse.plan.endpoints`.
        """
        return 0 if revision is None else self._named(revision, revision)

    def behind(self, revision: str | None) -> int:
        """Return how many ready pods of a revision nodes are told to send requests of the model's users to."""
        return 0 if revision is None else self._named(revision, self.seen.key.name)

    def _named(self, revision: str, service: str) -> int:
        told = endpoints.named(self.seen, service)
        ready = (pod["metadata"]["uid"] for pod in pods_of(self.seen, revision) if is_ready(pod))
        return sum(uid in told for uid in ready)

    def present(self, revision: str | None) -> int:
        """Return how many pods of a revision take up room on some node, those that are just ending included."""
        phases = (p.get("status", {}).get("phase") for p in _labelled(self.seen, revision))
        return sum(phase not in ("Succeeded", "Failed") for phase in phases)

    def full(self, revision: str | None) -> bool:
        """Whether a revision's Deployment exists and has all the pods that are asked for, ready and reachable."""
        return self.seen.deployment(revision or "") is not None and self.reachable(revision) >= self.replicas

    def diagnosis(self, revision: str) -> Diagnosis | None:
        return diagnose(pods_of(self.seen, revision), self.seen.deployment(revision))

    def alone(self, *revisions: str | None) -> bool:
        """Whether no pod of any other revision is left that a mixed Service would send requests to."""
        return all(
            "deletionTimestamp" in pod["metadata"]
            or pod["metadata"].get("labels", {}).get(LABEL_REVISION) in (None, *revisions)
            for pod in self.seen.pods
        )

    def idle(self, state: State) -> bool:
        """Whether a rollout has to wait for pods to try the candidate with: the model is scaled to zero."""
        way = self.spec.rollout
        gated = bool(way.steps) or gate(state, self.spec) is not None or not way.auto_promote
        skip = state.rollout is not None and state.rollout.skip
        return self.replicas == 0 and gated and not skip and state.candidate not in (None, state.stable)

    def returning(self, state: State) -> bool:
        """Whether a rollout that goes pod by pod is on its way back: the spec asks for the stable revision again.

        Its pods take their places back one by one, as they were given up.
        """
        rollout = state.rollout
        half_way = rollout is not None and routing.by_pods(rollout) and rollout.reached
        return half_way and self.target == state.stable and not self.spec.paused

    def drained(self, revision: str, since: datetime, *, in_the_way: bool) -> bool:
        """Whether pods that were replaced then have drained: their time is over, and no node is told of them."""
        over = self.now >= self.drained_at(since, in_the_way=in_the_way)
        return over and not endpoints.holds(self.seen, revision)

    def drained_at(self, since: datetime, *, in_the_way: bool) -> datetime:
        """Return when the time is over that pods which were replaced then have for draining."""
        delay = seconds(self.spec.rollout.scale_down_delay)
        return after(since, min(delay, _DRAIN_AT_LEAST) if in_the_way else delay)


def needed(rollout: Rollout, state: State, spec: ModelDeploymentSpec) -> int:
    """Return how many ready pods of the candidate its present phase or step needs."""
    replicas = desired_replicas(spec)
    if rollout.phase in (Phase.PROGRESSING, Phase.VALIDATING):
        return min(_first_pods(rollout, state, spec), replicas)
    if (
        rollout.phase is Phase.SHIFTING
        and rollout.step is not None
        and spec.rollout.strategy is Strategy.CANARY
    ):
        return step_split(rollout, spec).candidate
    return replicas


def _first_pods(rollout: Rollout, state: State, spec: ModelDeploymentSpec) -> int:
    """Return how many pods are brought up before anything else happens."""
    replicas, surge = desired_replicas(spec), limited_surge(spec)
    if state.stable is None:
        return replicas
    if surge is not None:
        return max(surge, 1)
    if spec.rollout.strategy is Strategy.CANARY and not rollout.skip:
        return split(step_weight(spec.rollout, 0), replicas).candidate
    return replicas


def step_split(rollout: Rollout, spec: ModelDeploymentSpec) -> Split:
    """Return how many pods of each side the present step asks for."""
    return split(step_weight(spec.rollout, rollout.step or 0), desired_replicas(spec))
