"""How a model moves from one revision to the next: an ordered table of transitions, at most one of them a pass.

A transition only changes the state. It is written to the status first; what it asks of the cluster is done in the
next pass, from the written state, so that a crash between any two lines loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pilothouse.api.conditions import Outcome, Phase, Reason, RevisionState
from pilothouse.api.durations import seconds
from pilothouse.api.names import LABEL_REVISION
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.api.uris import redacted
from pilothouse.plan.actions import Notice
from pilothouse.plan.causes import Diagnosis, diagnose, shorten
from pilothouse.plan.children import switched
from pilothouse.plan.clock import after, moment
from pilothouse.plan.revisions import recorded
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import Ended, Entry, Rollout, State

_HISTORY_LENGTH = 10


@dataclass(frozen=True)
class Facts:
    """What the guards look at, drawn once from what was seen."""

    seen: Seen
    spec: ModelDeploymentSpec
    target: str
    now: datetime

    def ready(self, revision: str | None) -> int:
        """Return how many pods of a revision are ready, by the pods' own word."""
        return sum(is_ready(pod) for pod in pods_of(self.seen, revision))

    def full(self, revision: str | None) -> bool:
        """Whether a revision's Deployment exists and has all the ready pods that the spec asks for."""
        return self.seen.deployment(revision or "") is not None and self.ready(revision) >= self.spec.replicas

    def diagnosis(self, revision: str) -> Diagnosis | None:
        return diagnose(pods_of(self.seen, revision), self.seen.deployment(revision))

    def deadline(self, rollout: Rollout) -> datetime | None:
        """Return when the rollout has taken too long, or None before its pods were asked for.

        Time in which the operator was away before it made the Deployment does not count.
        """
        deployment = self.seen.deployment(rollout.revision)
        if deployment is None:
            return None
        began = max(rollout.started_at, moment(deployment["metadata"]["creationTimestamp"]))
        return after(began, seconds(self.spec.rollout.progress_deadline))

    def drained_at(self, since: datetime) -> datetime:
        return after(since, seconds(self.spec.rollout.scale_down_delay))


@dataclass(frozen=True)
class Step:
    """A transition taken: the state after it, and what to tell people."""

    state: State
    notices: tuple[Notice, ...] = ()


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
        for p in seen.pods
        if p["metadata"].get("labels", {}).get(LABEL_REVISION) == revision
        and "deletionTimestamp" not in p["metadata"]
        and moment(p["metadata"]["creationTimestamp"]) >= born
    ]


def is_ready(pod: Json) -> bool:
    """Whether the kubelet says that a pod is Ready."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


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
    """
    switching = state.rollout is not None and state.rollout.phase is Phase.SWITCHING
    if facts.target == state.target or switching:
        return None
    state, notices = _drop_unfinished(state, facts)
    state = replace(state, target=facts.target)
    if facts.target == state.stable:
        rollout = Rollout(facts.target, Phase.COMPLETE, facts.now)
        return Step(replace(state, rollout=rollout), (*notices, _notice_back(facts)))
    return Step(_begin(state, facts), (*notices, _notice_started(state, facts)))


def _drop_unfinished(state: State, facts: Facts) -> tuple[State, tuple[Notice, ...]]:
    """Retire what was asked for until now, unless it serves."""
    old = state.entry(state.target)
    if old is None or old.name == state.stable:
        return state, ()
    if state.stable is None and facts.ready(old.name) > 0:
        # A first revision gets requests from its first ready pod on: finished or not, it is what serves.
        served = replace(old, state=RevisionState.STABLE, since=facts.now, reason="", message="")
        return replace(state.with_entry(served), stable=old.name), ()
    notices: tuple[Notice, ...] = ()
    if old.state is RevisionState.CANDIDATE:
        message = f"revision {old.name} was replaced by {facts.target} before it was finished"
        state = _end(state, facts, Outcome.SUPERSEDED, "", message)
        old = replace(old, reason=Outcome.SUPERSEDED, message=message)
        notices = (Notice("Normal", "RolloutSuperseded", message),)
    return state.with_entry(replace(old, state=RevisionState.RETIRED, since=facts.now)), notices


def promote(state: State, facts: Facts) -> Step | None:
    """The new revision has all its pods ready: it becomes the stable one, and the traffic follows.

    With a stable revision that serves nobody, one ready pod is enough: nothing is gained by waiting. A first
    revision that failed and came up after all is let through as well.
    """
    rollout = state.rollout
    if rollout is None or rollout.revision != state.target or state.target == state.stable:
        return None
    if rollout.phase is Phase.FAILED and state.stable is not None:
        return None
    nobody_serves = state.stable is not None and facts.spec.replicas > 0 and facts.ready(state.stable) == 0
    if not (facts.full(state.target) or (nobody_serves and facts.ready(state.target) > 0)):
        return None
    entry = state.entry(state.target)
    if entry is None:
        return None
    message = f"revision {entry.name} has {facts.ready(entry.name)} ready pods and takes over the traffic"
    old = state.entry(state.stable)
    if old is not None:
        state = state.with_entry(
            replace(old, state=RevisionState.DRAINING, since=facts.now, reason="", message="")
        )
    state = state.with_entry(
        replace(entry, state=RevisionState.STABLE, since=facts.now, reason="", message="")
    )
    state = _end(state, facts, Outcome.PROMOTED, "", message)
    switching = Rollout(entry.name, Phase.SWITCHING, rollout.started_at)
    return Step(
        replace(state, stable=entry.name, rollout=switching), (Notice("Normal", "RevisionPromoted", message),)
    )


def complete(state: State, facts: Facts) -> Step | None:
    """The Service is seen to point at the new revision: from now the old pods are only draining."""
    rollout = state.rollout
    if rollout is None or rollout.phase is not Phase.SWITCHING or not switched(facts.seen, state.stable):
        return None
    for entry in state.entries:
        if entry.state is RevisionState.DRAINING:
            state = state.with_entry(replace(entry, since=facts.now))
    return Step(replace(state, rollout=replace(rollout, phase=Phase.COMPLETE)))


def fail(state: State, facts: Facts) -> Step | None:
    """The new revision cannot come up, or not in time: the stable one keeps the traffic."""
    rollout = state.rollout
    if rollout is None or rollout.phase is not Phase.PROGRESSING:
        return None
    entry = state.entry(rollout.revision)
    deadline = facts.deadline(rollout)
    if entry is None or deadline is None:
        return None
    found = facts.diagnosis(rollout.revision)
    late = facts.now >= deadline
    if not late and not (found and found.final):
        return None
    if found is None:
        reason = Reason.PROGRESS_DEADLINE_EXCEEDED
        ready = f"{facts.ready(rollout.revision)} of {facts.spec.replicas} pods ready"
        text = f"{ready} when the progress deadline of {facts.spec.rollout.progress_deadline} ended"
    else:
        reason = found.reason
        # What the registry said before it was only backing off is worth more than the back-off.
        text = entry.message if found.vague and entry.reason == reason and entry.message else found.message
        if late and not found.final:
            text = shorten(f"{text} (progress deadline of {facts.spec.rollout.progress_deadline} exceeded)")
    state = state.with_entry(
        replace(entry, state=RevisionState.FAILED, since=facts.now, reason=reason, message=text)
    )
    state = _end(state, facts, Outcome.FAILED, reason, text)
    failed = replace(rollout, phase=Phase.FAILED, reason=reason, message=text)
    return Step(
        replace(state, rollout=failed),
        (Notice("Warning", "RolloutFailed", f"revision {entry.name}: {reason}: {text}"),),
    )


def retire(state: State, facts: Facts) -> Step | None:
    """An old revision has drained for long enough: its pods go."""
    rollout = state.rollout
    if rollout is not None and rollout.phase is Phase.SWITCHING:
        return None
    for entry in state.entries:
        if entry.state is RevisionState.DRAINING and facts.now >= facts.drained_at(entry.since):
            retired = replace(entry, state=RevisionState.RETIRED, since=facts.now)
            return Step(
                state.with_entry(retired),
                (Notice("Normal", "RevisionRetired", f"revision {entry.name} no longer has any pods"),),
            )
    return None


def trim(state: State, facts: Facts) -> Step | None:
    """More retired revisions than `revisionHistoryLimit`: forget the oldest."""
    retired = [e for e in state.entries if e.state is RevisionState.RETIRED]
    surplus = retired[facts.spec.rollout.revision_history_limit :]
    return Step(state.without(*(e.name for e in surplus))) if surplus else None


def adopt(state: State, facts: Facts) -> Step | None:
    """The status was lost but the Service still says who serves: that revision is the stable one."""
    if state.target is not None or state.stable is not None:
        return None
    for live in facts.seen.revisions:
        record = recorded(facts.seen, live["metadata"]["name"])
        if record is not None and switched(facts.seen, record.name):
            entry = Entry(
                name=record.name,
                number=record.number,
                state=RevisionState.STABLE,
                since=facts.now,
                uri=redacted(record.uri),
                version=record.version,
                digest=record.digest,
            )
            state = replace(state.with_entry(entry), stable=record.name, target=record.name)
            return Step(replace(state, rollout=Rollout(record.name, Phase.COMPLETE, facts.now)))
    return None


Transition = Callable[[State, Facts], Step | None]
TABLE: tuple[Transition, ...] = (adopt, complete, retarget, promote, fail, retire, trim)


def _begin(state: State, facts: Facts) -> State:
    """Start the rollout of the target: its entry becomes the candidate, with a number above all others."""
    model = facts.spec.model
    entry = Entry(
        name=facts.target,
        number=state.next_number,
        state=RevisionState.CANDIDATE,
        since=facts.now,
        uri=redacted(model.uri),
        version=model.version,
        digest=model.digest or "",
    )
    return replace(state.with_entry(entry), rollout=Rollout(facts.target, Phase.PROGRESSING, facts.now))


def _end(state: State, facts: Facts, outcome: Outcome, reason: str, message: str) -> State:
    """Write the end of the running rollout into the history, newest first."""
    rollout = state.rollout
    entry = state.entry(rollout.revision) if rollout else None
    if rollout is None or entry is None:
        return state
    ended = Ended(entry.name, entry.version, outcome, reason, message, rollout.started_at, facts.now)
    return replace(state, history=(ended, *state.history)[:_HISTORY_LENGTH])


def _notice_started(state: State, facts: Facts) -> Notice:
    origin = f" (revision {state.stable} keeps the traffic until then)" if state.stable else ""
    return Notice("Normal", "RolloutStarted", f"bringing up revision {facts.target}{origin}")


def _notice_back(facts: Facts) -> Notice:
    return Notice(
        "Normal", "RolloutCancelled", f"the spec asks for revision {facts.target} again, which serves already"
    )
