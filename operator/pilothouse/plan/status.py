"""The status: everything that `kubectl get`, `kubectl wait`, Helm, Argo CD and Flux read, from what was seen."""

from __future__ import annotations

from datetime import datetime

from pilothouse.api import names
from pilothouse.api.conditions import Phase, RevisionState
from pilothouse.plan import drift, loading, routing
from pilothouse.plan.answers import Finding, Problem, available, conditions, ready, trouble
from pilothouse.plan.facts import Facts, pods_of
from pilothouse.plan.judging import milliseconds
from pilothouse.plan.memory import dump_ended, dump_entry, dump_given, dump_rollout
from pilothouse.plan.seen import Json, Seen, is_ready
from pilothouse.plan.state import Entry, Rollout, State
from pilothouse.plan.weights import reached

_MEASURED = ("requestRate", "errorRate", "latencyP99")


def compose(seen: Seen, facts: Facts | None, state: State, problem: Problem | None, now: datetime) -> Json:
    """Return the whole status.

    Args:
        seen: what the cluster looked like in this pass.
        facts: what the pass was decided on, or None where the spec is invalid (then `problem` says why).
        state: the state after this pass's transition.
        problem: what kept the pass from doing its work.
        now: the time for transitions of conditions.
    """
    weights = _weights(seen, state)
    behind = [p for name in _sharing(seen, state) for p in pods_of(seen, name)]
    ready_pods = sum(map(is_ready, behind))
    desired = facts.replicas if facts else _live_replicas(seen, state.serving)
    is_ready_now = ready(facts, state, problem)
    status: Json = {
        "observedGeneration": seen.generation,
        "url": f"http://{seen.key.name}.{seen.key.namespace}.svc",
        "replicas": len(behind),
        "readyReplicas": ready_pods,
        "replicasSummary": f"{ready_pods}/{desired}",
        # The load of all pods together is what an autoscaler must go by, whichever revision they are of.
        "selector": names.selector_text(names.mixed_selector(seen.key.name)),
        "conditions": conditions(seen, is_ready_now, available(ready_pods, desired, state.serving), now),
        "revisions": [_entry(seen, facts, state, entry, weights, now) for entry in state.entries],
        "history": [dump_ended(ended) for ended in state.history],
    }
    if state.commands:
        status["commands"] = [dump_given(given) for given in state.commands]
    if state.stable:
        status["stableRevision"] = state.stable
    if state.target:
        status["targetRevision"] = state.target
    stable = state.entry(state.stable)
    if stable and stable.version:
        status["stableVersion"] = stable.version
    if state.rollout:
        status["rollout"] = _rollout(facts, state.rollout, is_ready_now, weights)
    return status


def _sharing(seen: Seen, state: State) -> routing.Route:
    """Return the revisions that the model's Service is seen to send requests to."""
    if routing.mixed(seen):
        # The rollout's, also just after it failed: until the Service is switched it has its share.
        tried = state.rollout.revision if state.rollout is not None else None
        return tuple(dict.fromkeys(name for name in (state.stable, tried) if name is not None))
    return tuple(entry.name for entry in state.entries if routing.in_force(seen, (entry.name,)))


def _weights(seen: Seen, state: State) -> dict[str, int]:
    """Return the percentage of requests that each revision gets: its share of the ready pods behind the Service."""
    sharing = _sharing(seen, state)
    counts = {
        name: sum(is_ready(pod) and routing.serves(pod, sharing) for pod in pods_of(seen, name))
        for name in sharing
    }
    return {name: reached(count, sum(counts.values()) - count) for name, count in counts.items()}


def _entry(
    seen: Seen, facts: Facts | None, state: State, entry: Entry, weights: dict[str, int], now: datetime
) -> Json:
    pods = pods_of(seen, entry.name)
    data = dump_entry(entry) | {"replicas": len(pods), "readyReplicas": sum(map(is_ready, pods))}
    if weights.get(entry.name):
        data["weight"] = weights[entry.name]
    if entry.state in (RevisionState.CANDIDATE, RevisionState.STABLE):
        data.pop("reason", None)
        data.pop("message", None)
        cause = trouble(seen, state, entry.name)
        if cause is not None:
            data |= {"reason": str(cause[0]), "message": cause[1]}
    data |= loading.shown(seen, entry, facts.reports if facts is not None else {}, now)
    data |= drift.shown(seen, entry, facts)
    return data | _traffic(seen, facts, state, entry)


def _traffic(seen: Seen, facts: Facts | None, state: State, entry: Entry) -> Json:
    """Return what was last measured of a revision's requests, in words.

    The numbers move with every request, and the status must not: each write of it is an event that leads to the next
    pass. So they are those of the last measurement.
    """
    rollout = state.rollout
    if facts is None or rollout is None or rollout.analysis is None or facts.samples is None:
        return _as_before(seen, state, entry)
    samples, traffic = facts.samples, facts.samples.traffic.get(entry.name)
    if rollout.analysis.measured_at != facts.now or traffic is None or samples.seconds <= 0:
        return _as_before(seen, state, entry)
    data = {
        "requestRate": f"{traffic.requests / samples.seconds:.3g}/s",
        "errorRate": f"{traffic.error_rate:.2%}",
    }
    p99 = traffic.quantile(0.99)
    return data if p99 is None else data | {"latencyP99": milliseconds(p99)}


def _as_before(seen: Seen, state: State, entry: Entry) -> Json:
    """Return what the status says already; of a revision that failed it stays, as a part of why."""
    rollout = state.rollout
    shown = rollout is not None and (rollout.under_way or entry.state is RevisionState.FAILED)
    if not shown:
        return {}
    revisions = (seen.body.get("status") or {}).get("revisions", ())
    before: Json = next((e for e in revisions if e["name"] == entry.name), {})
    return {field: before[field] for field in _MEASURED if field in before}


def _rollout(facts: Facts | None, rollout: Rollout, is_ready_now: Finding, weights: dict[str, int]) -> Json:
    data = dump_rollout(rollout)
    if rollout.phase not in (Phase.COMPLETE, Phase.FAILED):
        data |= {"reason": str(is_ready_now.reason), "message": is_ready_now.message}
    data["weightReached"] = weights.get(rollout.revision, 0)
    # Steps that were changed just now are not the ones that it is in.
    known = facts is not None and rollout.under_way and rollout.plan == routing.plan_of(facts.spec)
    if facts is not None and known and facts.spec.rollout.steps:
        data["steps"] = len(facts.spec.rollout.steps)
        if rollout.step is not None:
            data["weight"] = routing.step_weight(facts.spec.rollout, rollout.step)
    return data


def _live_replicas(seen: Seen, revision: str | None) -> int:
    deployment = seen.deployment(revision or "")
    return int(deployment["spec"].get("replicas", 1)) if deployment else 1
