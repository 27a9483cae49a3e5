"""The state as it is written into `.status`, and read back from it: each is the other's inverse."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pilothouse.api.conditions import Command, Outcome, Phase, RevisionState, Verdict
from pilothouse.plan.clock import moment, stamp
from pilothouse.plan.seen import Json
from pilothouse.plan.state import Analysis, Ended, Entry, Given, Rollout, State, Validated


def load(status: Json) -> State:
    """Read the state out of a ModelDeployment's `.status`; an empty status is an empty state.

    Raises:
        ValueError, KeyError: the status was not written by this operator (somebody edited it by hand).
    """
    rollout = status.get("rollout")
    return State(
        stable=status.get("stableRevision") or None,
        target=status.get("targetRevision") or None,
        rollout=_load_rollout(rollout) if rollout else None,
        entries=tuple(_load_entry(e) for e in status.get("revisions", ())),
        history=tuple(_load_ended(e) for e in status.get("history", ())),
        commands=tuple(_load_given(c) for c in status.get("commands", ())),
    )


def dump_entry(entry: Entry) -> Json:
    """Return what is remembered of a revision."""
    return _filled(
        name=entry.name,
        number=entry.number,
        state=str(entry.state),
        since=stamp(entry.since),
        uri=entry.uri,
        version=entry.version,
        digest=entry.digest,
        promoted=entry.promoted,
        reason=str(entry.reason),
        message=entry.message,
    )


def _load_entry(data: Json) -> Entry:
    return Entry(
        name=data["name"],
        number=data["number"],
        state=RevisionState(data["state"]),
        since=moment(data["since"]),
        uri=data["uri"],
        version=data.get("version", ""),
        digest=data.get("digest", ""),
        promoted=data.get("promoted", False),
        reason=data.get("reason", ""),
        message=data.get("message", ""),
    )


def dump_rollout(rollout: Rollout) -> Json:
    """Return what is remembered of a rollout. What one under way waits for is not: it is found anew in each pass."""
    done, analysis = rollout.validation, rollout.analysis
    over = rollout.phase is Phase.FAILED
    return _filled(
        revision=rollout.revision,
        phase=str(rollout.phase),
        startedAt=stamp(rollout.started_at),
        since=stamp(rollout.since),
        plan=rollout.plan,
        step=None if rollout.step is None else rollout.step + 1,
        reached=rollout.reached,
        inForceSince=_stamp(rollout.in_force_since),
        waitingSince=_stamp(rollout.waiting_since),
        held=rollout.held,
        pausedAt=_stamp(rollout.paused_at),
        skipSteps=rollout.skip,
        validation=done and _dump_validated(done),
        analysis=analysis and _dump_analysis(analysis),
        reason=str(rollout.reason) if over else "",
        message=rollout.message if over else "",
    )


def _load_rollout(data: Json) -> Rollout:
    done, analysis = data.get("validation"), data.get("analysis")
    over = data["phase"] == Phase.FAILED
    return Rollout(
        revision=data["revision"],
        phase=Phase(data["phase"]),
        started_at=moment(data["startedAt"]),
        since=moment(data.get("since") or data["startedAt"]),
        plan=data.get("plan", ""),
        step=data["step"] - 1 if "step" in data else None,
        reached=data.get("reached", False),
        in_force_since=_moment(data.get("inForceSince")),
        waiting_since=_moment(data.get("waitingSince")),
        held=data.get("held", False),
        paused_at=_moment(data.get("pausedAt")),
        skip=data.get("skipSteps", False),
        validation=_load_validated(done) if done else None,
        analysis=_load_analysis(analysis) if analysis else None,
        reason=data.get("reason", "") if over else "",
        message=data.get("message", "") if over else "",
    )


def _dump_validated(done: Validated) -> Json:
    return {"passed": done.passed} | _filled(value=done.value, message=done.message, at=stamp(done.at))


def _load_validated(data: Json) -> Validated:
    return Validated(data["passed"], data.get("value", ""), data["message"], moment(data["at"]))


def _dump_analysis(analysis: Analysis) -> Json:
    return _filled(
        since=stamp(analysis.since),
        requests=analysis.requests,
        passed=analysis.passed,
        failed=analysis.failed,
        last=analysis.last and str(analysis.last),
        measuredAt=_stamp(analysis.measured_at),
        message=analysis.message,
    )


def _load_analysis(data: Json) -> Analysis:
    return Analysis(
        since=moment(data["since"]),
        requests=data.get("requests", 0),
        passed=data.get("passed", 0),
        failed=data.get("failed", 0),
        last=Verdict(data["last"]) if "last" in data else None,
        measured_at=_moment(data.get("measuredAt")),
        message=data.get("message", ""),
    )


def dump_ended(ended: Ended) -> Json:
    """Return one entry of the history."""
    return _filled(
        revision=ended.revision,
        version=ended.version,
        outcome=str(ended.outcome),
        reason=str(ended.reason),
        message=ended.message,
        startedAt=stamp(ended.started_at),
        endedAt=stamp(ended.ended_at),
    )


def _load_ended(data: Json) -> Ended:
    return Ended(
        revision=data["revision"],
        version=data.get("version", ""),
        outcome=Outcome(data["outcome"]),
        reason=data.get("reason", ""),
        message=data.get("message", ""),
        started_at=moment(data["startedAt"]),
        ended_at=moment(data["endedAt"]),
    )


def dump_given(given: Given) -> Json:
    """Return what is remembered of a command."""
    return {
        "command": str(given.command),
        "value": given.value,
        "outcome": given.outcome,
        "at": stamp(given.at),
    }


def _load_given(data: Json) -> Given:
    return Given(Command(data["command"]), data["value"], data["outcome"], moment(data["at"]))


def _filled(**fields: Any) -> Json:
    """Leave out what says nothing: the API server would store it, and people would have to read it."""
    return {name: value for name, value in fields.items() if value not in (None, "", False, 0)}


def _stamp(when: datetime | None) -> str | None:
    return None if when is None else stamp(when)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment(text)
