"""When an object must be looked at again although no event may come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pilothouse.api.conditions import Phase, RevisionState
from pilothouse.plan import drift
from pilothouse.plan.decide import Decision
from pilothouse.plan.facts import Facts
from pilothouse.plan.forward import step_end
from pilothouse.plan.judging import analysed, deadline, measurement_due
from pilothouse.plan.memory import load
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import Rollout, State

# Pods say why they fail without any event that reaches the operator (it does not watch every pod of the cluster),
# so while something is not ready it looks again: often at first, less often the longer it takes.
_LOOK_AGAIN_MIN = 1.0
_LOOK_AGAIN_MAX = 15.0
_LOOK_AGAIN_SHARE = 0.1


def look_again(decision: Decision, seen: Seen, status: Json, now: datetime) -> float | None:
    """Return in how many seconds the object must be looked at again, or None where only the resync is due.

    Args:
        decision: what this pass decided.
        seen: what this pass saw.
        status: the status that this pass wrote.
        now: the time of this pass.
    """
    facts, state = decision.facts, decision.state
    if facts is None:
        return None
    if state != load(seen.body.get("status") or {}):
        return 0.0
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])
    times = [(moment - now).total_seconds() for moment in _moments(state, facts)]
    times = [seconds_ for seconds_ in times if seconds_ > 0]
    if drift.watched(state, facts):
        times.append(drift.LOOK.total_seconds())
    rollout = state.rollout
    if rollout is not None and not ready and _watched(rollout):
        elapsed = (now - rollout.since).total_seconds()
        times.append(min(max(elapsed * _LOOK_AGAIN_SHARE, _LOOK_AGAIN_MIN), _LOOK_AGAIN_MAX))
    return min(times, default=None)


def _watched(rollout: Rollout) -> bool:
    """Whether pods are being waited for: not after a failure, nor in a step whose pods are all there."""
    if rollout.phase is Phase.FAILED:
        return False
    if rollout.phase in (Phase.SHIFTING, Phase.AWAITING):
        return rollout.waiting_since is not None or (
            rollout.step is not None and rollout.in_force_since is None
        )
    return True


def _moments(state: State, facts: Facts) -> Iterator[datetime]:
    rollout = state.rollout
    in_the_way = rollout is not None and rollout.phase is Phase.SHIFTING
    for entry in state.entries:
        if entry.state in (RevisionState.DRAINING, RevisionState.FAILED):
            yield facts.drained_at(entry.since, in_the_way=in_the_way)
    if rollout is None or not rollout.under_way:
        return
    late = deadline(rollout, facts)
    if late is not None:
        yield late
    spec = facts.spec.rollout
    if analysed(state, facts) is not None and rollout.analysis is not None and spec.analysis is not None:
        yield measurement_due(rollout.analysis, spec.analysis)
    in_step = rollout.phase is Phase.SHIFTING and rollout.step is not None and rollout.step < len(spec.steps)
    if (
        in_step
        and rollout.in_force_since is not None
        and rollout.step is not None
        and rollout.paused_at is None
    ):
        yield step_end(rollout.in_force_since, spec.steps[rollout.step])
