"""The status: everything that `kubectl get`, `kubectl wait`, Helm, Argo CD and Flux read, from what was seen.

Conditions follow kstatus (sigs.k8s.io/cli-utils/pkg/kstatus): `Ready` is always there, `Reconciling` and
`Stalled` only while true, each with the generation that it speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import floor

from pilothouse.api import names
from pilothouse.api.conditions import ConditionType, Phase, Reason, RevisionState
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.causes import Diagnosis, diagnose
from pilothouse.plan.children import switched
from pilothouse.plan.clock import stamp
from pilothouse.plan.rollout import is_ready, pods_of
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import Ended, Entry, Rollout, State

# Kubernetes' own rule for a Deployment: available while at most a quarter of the pods is missing.
_MAX_UNAVAILABLE = 0.25


@dataclass(frozen=True)
class Problem:
    """What keeps a pass from doing its work: an invalid spec, or something in the way that the API server named."""

    reason: str
    message: str


@dataclass(frozen=True)
class Finding:
    """The answer to one of the two questions (does something serve? has my change converged?)."""

    true: bool
    reason: str
    message: str
    stalled: bool = False


def compose(
    seen: Seen, spec: ModelDeploymentSpec | None, state: State, problem: Problem | None, now: datetime
) -> Json:
    """Return the whole status.

    Args:
        seen: what the cluster looked like in this pass.
        spec: the spec as understood, or None where it is invalid (then `problem` says why).
        state: the state after this pass's transition.
        problem: what kept the pass from doing its work.
        now: the time for transitions of conditions.
    """
    serving = state.serving
    pods = pods_of(seen, serving)
    ready_pods = sum(map(is_ready, pods))
    desired = spec.replicas if spec else _live_replicas(seen, serving)
    ready = _ready(seen, state, desired, problem)
    status: Json = {
        "observedGeneration": seen.generation,
        "url": f"http://{seen.key.name}.{seen.key.namespace}.svc",
        "replicas": len(pods),
        "readyReplicas": ready_pods,
        "replicasSummary": f"{ready_pods}/{desired}",
        "selector": _selector(seen, serving),
        "conditions": _conditions(seen, ready, _available(ready_pods, desired, serving), now),
        "revisions": [_entry(seen, state, entry) for entry in state.entries],
        "history": [_ended(ended) for ended in state.history],
    }
    if state.stable:
        status["stableRevision"] = state.stable
    if state.target:
        status["targetRevision"] = state.target
    stable = state.entry(state.stable)
    if stable and stable.version:
        status["stableVersion"] = stable.version
    if state.rollout:
        status["rollout"] = _rollout(state.rollout, ready)
    return status


def _available(ready_pods: int, desired: int, serving: str | None) -> Finding:
    if desired == 0 and serving is not None:
        return Finding(True, Reason.SCALED_TO_ZERO, "spec.replicas is 0: no pods are wanted")
    enough = max(desired - floor(desired * _MAX_UNAVAILABLE), 1)
    message = f"{ready_pods} of {desired} pods ready"
    if ready_pods >= enough:
        return Finding(True, Reason.ENOUGH_PODS_READY, message)
    return Finding(False, Reason.TOO_FEW_PODS_READY, f"{message}, at least {enough} needed")


def _ready(seen: Seen, state: State, desired: int, problem: Problem | None) -> Finding:
    """Return whether the revision that the spec asks for serves all the traffic, else what that waits for."""
    if problem is not None:
        return Finding(False, problem.reason, problem.message, stalled=True)
    rollout, target = state.rollout, state.target
    if target is None or rollout is None:
        return Finding(False, Reason.PROGRESSING, "the rollout has not begun yet")
    keeps = f"; revision {state.stable} keeps the traffic" if state.stable and state.stable != target else ""
    if rollout.phase is Phase.FAILED:
        return Finding(
            False, rollout.reason, f"revision {target} failed: {rollout.message}{keeps}", stalled=True
        )
    ready = sum(map(is_ready, pods_of(seen, target)))
    counted = f"{ready} of {desired} pods ready"
    if state.stable == target and rollout.phase is Phase.COMPLETE and switched(seen, target):
        if ready >= desired:
            if desired == 0:
                return Finding(True, Reason.SCALED_TO_ZERO, "spec.replicas is 0: no pods are wanted")
            return Finding(True, Reason.SERVING, f"revision {target} serves all traffic, {counted}")
    elif rollout.phase is Phase.SWITCHING or state.stable == target:
        return Finding(False, Reason.SWITCHING, f"traffic is being moved to revision {target}")
    told = _told(seen, state, target)
    if told is not None:
        return Finding(False, told[0], f"revision {target}, {counted}: {told[1]}{keeps}")
    return Finding(False, Reason.PROGRESSING, f"revision {target}, {counted}{keeps}")


def _told(seen: Seen, state: State, revision: str) -> tuple[str, str] | None:
    """Return the reason and message to show for a revision that should be coming up."""
    found = diagnose(pods_of(seen, revision), seen.deployment(revision))
    return _keep_clear(found, state.entry(revision)) if found else None


def _keep_clear(found: Diagnosis, entry: Entry | None) -> tuple[str, str]:
    """A vague message never takes the place of a clear one of the same reason."""
    if found.vague and entry is not None and entry.reason == found.reason and entry.message:
        return entry.reason, entry.message
    return found.reason, found.message


def _conditions(seen: Seen, ready: Finding, available: Finding, now: datetime) -> list[Json]:
    wanted: list[tuple[ConditionType, bool, str, str]] = [
        (ConditionType.AVAILABLE, available.true, available.reason, available.message),
        (ConditionType.READY, ready.true, ready.reason, ready.message),
    ]
    if ready.stalled:
        wanted.append((ConditionType.STALLED, True, ready.reason, ready.message))
    elif not ready.true:
        wanted.append((ConditionType.RECONCILING, True, ready.reason, ready.message))
    before = {c["type"]: c for c in (seen.body.get("status") or {}).get("conditions", ())}
    conditions: list[Json] = []
    for kind, true, reason, message in wanted:
        word = "True" if true else "False"
        old = before.get(kind)
        since = old["lastTransitionTime"] if old and old.get("status") == word else stamp(now)
        conditions.append(
            {
                "type": str(kind),
                "status": word,
                "reason": str(reason),
                "message": message,
                "observedGeneration": seen.generation,
                "lastTransitionTime": since,
            }
        )
    return conditions


def _entry(seen: Seen, state: State, entry: Entry) -> Json:
    pods = pods_of(seen, entry.name)
    data: Json = {
        "name": entry.name,
        "number": entry.number,
        "version": entry.version,
        "uri": entry.uri,
        "digest": entry.digest,
        "state": str(entry.state),
        "since": stamp(entry.since),
        "replicas": len(pods),
        "readyReplicas": sum(map(is_ready, pods)),
        "reason": entry.reason,
        "message": entry.message,
    }
    if entry.state in (RevisionState.CANDIDATE, RevisionState.STABLE):
        data["reason"], data["message"] = _told(seen, state, entry.name) or ("", "")
    return {field: str(value) if field == "reason" else value for field, value in data.items() if value != ""}


def _rollout(rollout: Rollout, ready: Finding) -> Json:
    data: Json = {
        "revision": rollout.revision,
        "phase": str(rollout.phase),
        "startedAt": stamp(rollout.started_at),
    }
    if rollout.phase is Phase.FAILED:
        data |= {"reason": str(rollout.reason), "message": rollout.message}
    elif rollout.phase is not Phase.COMPLETE:
        data |= {"reason": str(ready.reason), "message": ready.message}
    return data


def _ended(ended: Ended) -> Json:
    data = {
        "revision": ended.revision,
        "version": ended.version,
        "outcome": str(ended.outcome),
        "reason": str(ended.reason),
        "message": ended.message,
        "startedAt": stamp(ended.started_at),
        "endedAt": stamp(ended.ended_at),
    }
    return {field: value for field, value in data.items() if value}


def _selector(seen: Seen, revision: str | None) -> str:
    labels = names.pod_selector(seen.key.name, revision) if revision else {names.LABEL_MODEL: seen.key.name}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _live_replicas(seen: Seen, revision: str | None) -> int:
    deployment = seen.deployment(revision or "")
    return int(deployment["spec"].get("replicas", 1)) if deployment else 1
