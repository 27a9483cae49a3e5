"""How a model moves from one revision to the next: an ordered table of transitions, at most one of them a pass.

A transition only changes the state. It is written to the status first; what it asks of the cluster is done in the
next pass, from the written state, so that a crash between any two lines loses nothing.
"""

from __future__ import annotations

from dataclasses import replace

from pilothouse.api.conditions import Phase, RevisionState
from pilothouse.api.uris import redacted
from pilothouse.plan import endpoints, routing
from pilothouse.plan.actions import Notice
from pilothouse.plan.commands import forget, obey
from pilothouse.plan.facts import Facts
from pilothouse.plan.forward import (
    begin_validation_anew,
    end_step,
    hold,
    progress,
    promote,
    reach,
    replan,
    restart,
    revive,
    settle,
    take_over,
)
from pilothouse.plan.judging import fail, lack, measure, validate
from pilothouse.plan.revisions import Record, recorded
from pilothouse.plan.state import Entry, Rollout, State
from pilothouse.plan.steps import Step, Transition, begin, dropped, under_way


def advance(state: State, facts: Facts) -> Step | None:
    """Return the first transition whose guard holds, or None where the state stands as it is."""
    for transition in TABLE:
        step = transition(state, facts)
        if step is not None:
            return step
    return None


def retarget(state: State, facts: Facts) -> Step | None:
    """The spec asks for another revision: drop an unfinished one, start from the stable one.

    A switch of traffic that was begun is finished first: it takes one write, and the old pods must be seen to drain.
    So is a rollout that goes pod by pod, or it is taken back pod by pod: pods of the stable revision are gone, and
    those that took their places serve.
    """
    if facts.target == state.target or facts.spec.paused or _must_end_first(state, facts):
        return None
    drop = dropped(state, facts)
    state = replace(drop.state, target=facts.target)
    if facts.target == state.stable:
        over = Rollout(facts.target, Phase.COMPLETE, facts.now, facts.now)
        back = f"the spec asks for revision {facts.target} again, which serves already"
        return Step(replace(state, rollout=over), (*drop.notices, Notice("Normal", "RolloutCancelled", back)))
    origin = f" (revision {state.stable} keeps the traffic until then)" if state.stable else ""
    started = f"bringing up revision {facts.target}{origin}"
    return Step(begin(state, facts), (*drop.notices, Notice("Normal", "RolloutStarted", started)))


def _must_end_first(state: State, facts: Facts) -> bool:
    rollout = state.rollout
    if rollout is None:
        return False
    half_way = routing.by_pods(rollout) and rollout.reached
    back = facts.returning(state) and facts.full(state.stable)
    return rollout.phase is Phase.SWITCHING or (half_way and not back)


def complete(state: State, facts: Facts) -> Step | None:
    """Requests are seen to go to the new revision alone: from now the old pods are only draining."""
    rollout = state.rollout
    if rollout is None or rollout.phase is not Phase.SWITCHING or state.stable is None:
        return None
    if not endpoints.follow(facts.seen, (state.stable,)):
        return None
    state = replace(state, rollout=rollout.enter(Phase.COMPLETE, facts.now))
    for entry in state.entries:
        if entry.state is RevisionState.DRAINING:
            state = state.with_entry(replace(entry, since=facts.now))
    return Step(state)


def retire(state: State, facts: Facts) -> Step | None:
    """An old revision has drained for long enough: its pods go.

    Where a new rollout wants to mix its pods with the stable one's, that is sooner, if need be.
    """
    rollout = state.rollout
    if rollout is not None and rollout.phase is Phase.SWITCHING:
        return None
    in_the_way = under_way(state) is not None and rollout is not None and rollout.phase is Phase.SHIFTING
    for entry in state.entries:
        draining = entry.state is RevisionState.DRAINING
        if draining and facts.drained(entry.name, entry.since, in_the_way=in_the_way):
            retired = replace(entry, state=RevisionState.RETIRED, since=facts.now)
            return Step(
                state.with_entry(retired),
                (Notice("Normal", "RevisionRetired", f"revision {entry.name} no longer has any pods"),),
            )
    return None


def trim(state: State, facts: Facts) -> Step | None:
    """More retired revisions than `revisionHistoryLimit`: forget the oldest."""
    retired = [e for e in state.entries if e.state is RevisionState.RETIRED and e.name != state.target]
    surplus = retired[facts.spec.rollout.revision_history_limit :]
    return Step(state.without(*(e.name for e in surplus))) if surplus else None


def adopt(state: State, facts: Facts) -> Step | None:
    """The status was lost but the Service still says who serves: that revision is the stable one.

    Where two revisions share the requests, it is the one that the spec does not ask for.
    """
    if state.target is not None or state.stable is not None:
        return None
    records = [
        record
        for live in facts.seen.revisions
        if (record := recorded(facts.seen, live["metadata"]["name"])) is not None
    ]
    serving = [r for r in records if routing.in_force(facts.seen, (r.name,))]
    if not serving and routing.mixed(facts.seen):
        serving = sorted(
            (r for r in records if facts.ready(r.name) > 0), key=lambda r: (r.name == facts.target, -r.number)
        )
    if not serving:
        return None
    entry = _adopted(serving[0], facts)
    rollout = Rollout(entry.name, Phase.COMPLETE, facts.now, facts.now)
    return Step(replace(state.with_entry(entry), stable=entry.name, target=entry.name, rollout=rollout))


def _adopted(record: Record, facts: Facts) -> Entry:
    return Entry(
        name=record.name,
        number=record.number,
        state=RevisionState.STABLE,
        since=facts.now,
        uri=redacted(record.uri),
        version=record.version,
        digest=record.digest,
        promoted=True,
    )


# Commands before what the operator would do by itself; what stops a rollout before what lets it go on.
TABLE: tuple[Transition, ...] = (
    adopt,
    complete,
    forget,
    obey,
    hold,
    retarget,
    restart,
    replan,
    revive,
    take_over,
    validate,
    measure,
    fail,
    begin_validation_anew,
    progress,
    reach,
    settle,
    end_step,
    promote,
    lack,
    retire,
    trim,
)
