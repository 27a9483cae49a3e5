"""One pass, decided: what to do to the cluster now, what to remember, what to tell, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pilothouse.api.conditions import Phase, Reason, RevisionState
from pilothouse.api.durations import seconds
from pilothouse.api.parse import parse
from pilothouse.api.problems import InvalidSpec
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan import children, rollout
from pilothouse.plan.actions import Action, Notice
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import State, load
from pilothouse.plan.status import Problem
from pilothouse.plan.template import Defaults

# Pods say why they fail without any event that reaches the operator (it does not watch every pod of the cluster),
# so while something is not ready it looks again: often at first, less often the longer it takes.
_LOOK_AGAIN_MIN = 1.0
_LOOK_AGAIN_MAX = 15.0
_LOOK_AGAIN_SHARE = 0.1


@dataclass(frozen=True)
class Decision:
    """What one pass has to do. Without `spec` (it is invalid) nothing is done but saying so."""

    spec: ModelDeploymentSpec | None
    state: State
    actions: tuple[Action, ...] = ()
    notices: tuple[Notice, ...] = ()
    problem: Problem | None = None


def decide(seen: Seen, defaults: Defaults, now: datetime) -> Decision:
    """Decide one pass from what was seen; the same arguments give the same decision.

    The actions come from the state as it was written; the transition, if one is due, only changes what is written
    next.
    """
    status = seen.body.get("status") or {}
    state = load(status)
    try:
        spec = parse(seen.body)
    except InvalidSpec as error:
        problem = Problem(Reason.INVALID_SPEC, str(error))
        return Decision(None, state, notices=tuple(_news(status, problem)), problem=problem)
    target = children.target_name(seen, spec)
    # Nothing is known before the first status is written, so whatever exists is not known to be unwanted.
    wanted = children.want(seen, spec, state, defaults, now) if state.target else None
    step = rollout.advance(state, rollout.Facts(seen, spec, target, now))
    return Decision(
        spec=spec,
        state=step.state if step else state,
        actions=tuple(children.actions(seen, wanted)) if wanted else (),
        notices=step.notices if step else (),
    )


def blocked(seen: Seen, problem: Problem) -> tuple[Notice, ...]:
    """Return what to tell people of a problem met while acting; nothing where it was told before."""
    return tuple(_news(seen.body.get("status") or {}, problem))


def _news(status: Json, problem: Problem) -> list[Notice]:
    ready: Json = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    if (ready.get("reason"), ready.get("message")) == (problem.reason, problem.message):
        return []
    return [Notice("Warning", str(problem.reason), problem.message)]


def look_again(decision: Decision, seen: Seen, status: Json, now: datetime) -> float | None:
    """Return in how many seconds the object must be looked at again, or None where only the resync is due.

    Args:
        decision: what this pass decided.
        seen: what this pass saw.
        status: the status that this pass wrote.
        now: the time of this pass.
    """
    if decision.spec is None:
        return None
    if decision.state != load(seen.body.get("status") or {}):
        return 0.0
    times: list[float] = []
    delay = seconds(decision.spec.rollout.scale_down_delay)
    for entry in decision.state.entries:
        waits = entry.state in (RevisionState.DRAINING, RevisionState.FAILED)
        remaining = delay - (now - entry.since).total_seconds()
        if waits and remaining > 0:
            times.append(remaining)
    running = decision.state.rollout
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])
    # After a failure only the Deployment's own events count.
    if running is not None and not ready and running.phase is not Phase.FAILED:
        elapsed = (now - running.started_at).total_seconds()
        times.append(min(max(elapsed * _LOOK_AGAIN_SHARE, _LOOK_AGAIN_MIN), _LOOK_AGAIN_MAX))
        if running.phase is Phase.PROGRESSING:
            limit = seconds(decision.spec.rollout.progress_deadline) - elapsed
            times += [limit] if limit > 0 else []
    return min(times, default=None)
