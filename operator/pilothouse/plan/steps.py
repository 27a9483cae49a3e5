"""How a transition is made of states: what all transitions need to begin, end and tell about a rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pilothouse.api.conditions import Outcome, Phase, Reason, RevisionState
from pilothouse.api.uris import redacted
from pilothouse.plan import routing
from pilothouse.plan.actions import Notice
from pilothouse.plan.facts import Facts, limited_surge
from pilothouse.plan.state import Ended, Entry, Rollout, State

_HISTORY_LENGTH = 10


@dataclass(frozen=True)
class Step:
    """A transition taken: the state after it, and what to tell people."""

    state: State
    notices: tuple[Notice, ...] = ()


Transition = Callable[[State, Facts], Step | None]


def under_way(state: State) -> Rollout | None:
    """Return the rollout whose revision has neither been promoted nor failed yet, or None."""
    rollout = state.rollout
    return rollout if rollout is not None and rollout.under_way else None


def moving(state: State) -> Rollout | None:
    """Return the rollout that may go on now, or None: one that is paused may not."""
    rollout = under_way(state)
    return rollout if rollout is not None and rollout.paused_at is None else None


def with_rollout(state: State, rollout: Rollout, *notices: Notice) -> Step:
    """Return the step to a state that differs in its rollout."""
    return Step(replace(state, rollout=rollout), notices)


def begin(state: State, facts: Facts) -> State:
    """Start the rollout of the target: its entry becomes the candidate, with a number above all others.

    A revision that failed or was given up starts with new pods, so those of the last try must be gone first.
    """
    model = facts.spec.model
    old = state.entry(facts.target)
    rollout = Rollout(
        facts.target,
        Phase.PROGRESSING,
        started_at=facts.now,
        since=facts.now,
        plan=routing.plan_of(facts.spec),
        waiting_since=facts.now,
        skip=old is not None and old.promoted,
    )
    entry = Entry(
        name=facts.target,
        number=state.next_number,
        state=RevisionState.CANDIDATE,
        since=facts.now,
        uri=redacted(model.uri),
        version=model.version,
        digest=model.digest or "",
        promoted=rollout.skip,
    )
    left = facts.seen.deployment(facts.target) is not None or facts.seen.job(facts.target) is not None
    if old is not None and old.state in (RevisionState.FAILED, RevisionState.RETIRED) and left:
        entry = replace(entry, state=RevisionState.RETIRED, number=old.number)
        rollout = replace(rollout, phase=Phase.RETRYING, waiting_since=None)
    return replace(state.with_entry(entry), rollout=rollout)


def end(state: State, facts: Facts, outcome: Outcome, reason: str, message: str) -> State:
    """Write the end of the running rollout into the history, newest first."""
    rollout = state.rollout
    entry = state.entry(rollout.revision) if rollout else None
    if rollout is None or entry is None:
        return state
    ended = Ended(entry.name, entry.version, outcome, reason, message, rollout.started_at, facts.now)
    return replace(state, history=(ended, *state.history)[:_HISTORY_LENGTH])


def promoted(state: State, facts: Facts, why: str) -> Step | None:
    """The candidate becomes the stable revision, and the traffic follows; the old one begins to drain."""
    rollout = under_way(state)
    entry = state.entry(state.candidate)
    if rollout is None or entry is None:
        return None
    ready = facts.ready(entry.name)
    pods = f"{ready} ready pod{'' if ready == 1 else 's'}"
    message = f"revision {entry.name} has {pods} and takes over the traffic{why}"
    old = state.entry(state.stable)
    if old is not None:
        drains = replace(old, state=RevisionState.DRAINING, since=facts.now, reason="", message="")
        state = state.with_entry(drains)
    serves = replace(entry, state=RevisionState.STABLE, since=facts.now, promoted=True, reason="", message="")
    state = end(state.with_entry(serves), facts, Outcome.PROMOTED, "", message)
    switching = replace(rollout.enter(Phase.SWITCHING, facts.now), held=False, paused_at=None)
    return Step(
        replace(state, stable=entry.name, rollout=switching), (Notice("Normal", "RevisionPromoted", message),)
    )


def failed(
    state: State, facts: Facts, reason: Reason | str, message: str, outcome: Outcome = Outcome.FAILED
) -> Step | None:
    """The candidate is given up: requests go to the stable revision, whatever the candidate had of them."""
    rollout = under_way(state)
    entry = state.entry(state.candidate)
    if rollout is None or entry is None:
        return None
    given_up = replace(entry, state=RevisionState.FAILED, since=facts.now, reason=reason, message=message)
    state = end(state.with_entry(given_up), facts, outcome, reason, message)
    over = replace(
        rollout.enter(Phase.FAILED, facts.now), held=False, paused_at=None, reason=reason, message=message
    )
    aborted = outcome is Outcome.ABORTED
    notice = Notice(
        "Normal" if aborted else "Warning",
        "RolloutAborted" if aborted else "RolloutFailed",
        f"revision {entry.name}: {reason}: {message}",
    )
    return Step(replace(state, rollout=over), (notice,))


def dropped(state: State, facts: Facts) -> Step:
    """Give up what was asked for until now, unless it serves: the spec asks for something else.

    What may have had requests drains; what has not goes at once.
    """
    old = state.entry(state.target)
    if old is None or old.name == state.stable:
        return Step(state)
    if state.stable is None and facts.ready(old.name) > 0 and routing.route(state, facts.spec):
        # A first revision gets requests from its first ready pod on: finished or not, it is what serves.
        served = replace(old, state=RevisionState.STABLE, since=facts.now, reason="", message="")
        return Step(replace(state.with_entry(served), stable=old.name))
    notices: tuple[Notice, ...] = ()
    had_requests = routing.mixed(facts.seen) or routing.in_force(facts.seen, (old.name,))
    may_have_had = facts.ready(old.name) > 0 and limited_surge(facts.spec) is None
    drains = state.stable is not None and (had_requests or may_have_had)
    left = RevisionState.DRAINING if drains else RevisionState.RETIRED
    if under_way(state) is not None:
        message = f"revision {old.name} was replaced by {facts.target} before it was finished"
        state = end(state, facts, Outcome.SUPERSEDED, "", message)
        old = replace(old, since=facts.now, reason=Outcome.SUPERSEDED, message=message)
        notices = (Notice("Normal", "RolloutSuperseded", message),)
    # One that failed has been without requests since then.
    return Step(state.with_entry(replace(old, state=left)), notices)
