"""What the operator remembers between passes: the part of `.status` that cannot be recomputed.

Nothing else is kept anywhere, so an operator that starts anew goes on where the last one stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pilothouse.api.conditions import Outcome, Phase, RevisionState
from pilothouse.plan.clock import moment
from pilothouse.plan.seen import Json


@dataclass(frozen=True)
class Entry:
    """One revision and where it stands since when."""

    name: str
    number: int
    state: RevisionState
    since: datetime
    uri: str
    version: str = ""
    digest: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Rollout:
    """The rollout that runs, or the last one that ran."""

    revision: str
    phase: Phase
    started_at: datetime
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Ended:
    """One rollout that ended, for the history."""

    revision: str
    version: str
    outcome: Outcome
    reason: str
    message: str
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class State:
    """Which revision serves, which one is asked for, and how far the way between them has been gone."""

    stable: str | None = None
    target: str | None = None
    rollout: Rollout | None = None
    entries: tuple[Entry, ...] = ()
    history: tuple[Ended, ...] = ()

    def entry(self, name: str | None) -> Entry | None:
        """Return the entry of one revision, or None where it has none."""
        return next((e for e in self.entries if e.name == name), None)

    @property
    def serving(self) -> str | None:
        """The revision that user requests go to: the stable one, or before the first is, the one being tried."""
        return self.stable or self.target

    def with_entry(self, entry: Entry) -> State:
        """Return this state with the entry of that name put in or replaced; highest number first."""
        others = [e for e in self.entries if e.name != entry.name]
        return replace(self, entries=tuple(sorted([*others, entry], key=lambda e: (-e.number, e.name))))

    def without(self, *names: str) -> State:
        """Return this state with those entries forgotten."""
        return replace(self, entries=tuple(e for e in self.entries if e.name not in names))

    @property
    def next_number(self) -> int:
        return max((e.number for e in self.entries), default=0) + 1


def load(status: Json) -> State:
    """Read the state out of a ModelDeployment's `.status`; an empty status is an empty state.

    Raises:
        ValueError, KeyError: the status was not written by this operator (somebody edited it by hand).
    """
    rollout = status.get("rollout")
    return State(
        stable=status.get("stableRevision") or None,
        target=status.get("targetRevision") or None,
        rollout=_rollout(rollout) if rollout else None,
        entries=tuple(_entry(e) for e in status.get("revisions", ())),
        history=tuple(_ended(e) for e in status.get("history", ())),
    )


def _entry(data: Json) -> Entry:
    return Entry(
        name=data["name"],
        number=data["number"],
        state=RevisionState(data["state"]),
        since=moment(data["since"]),
        uri=data["uri"],
        version=data.get("version", ""),
        digest=data.get("digest", ""),
        reason=data.get("reason", ""),
        message=data.get("message", ""),
    )


def _rollout(data: Json) -> Rollout:
    return Rollout(
        revision=data["revision"],
        phase=Phase(data["phase"]),
        started_at=moment(data["startedAt"]),
        reason=data.get("reason", ""),
        message=data.get("message", ""),
    )


def _ended(data: Json) -> Ended:
    return Ended(
        revision=data["revision"],
        version=data.get("version", ""),
        outcome=Outcome(data["outcome"]),
        reason=data.get("reason", ""),
        message=data.get("message", ""),
        started_at=moment(data["startedAt"]),
        ended_at=moment(data["endedAt"]),
    )
