"""What the operator remembers between passes: the part of `.status` that cannot be recomputed.

Nothing else is kept anywhere, so an operator that starts anew goes on where the last one stopped. `plan.memory`
reads it from the status and writes it there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from pilothouse.api.conditions import Command, Outcome, Phase, RevisionState, Verdict

# Phases in which a new revision is on its way, and may still fail.
UNDER_WAY = frozenset({Phase.PROGRESSING, Phase.VALIDATING, Phase.SHIFTING, Phase.AWAITING, Phase.PROMOTING})


@dataclass(frozen=True)
class Entry:
    """One revision and where it stands since when.

    `promoted` says that it has served all requests before: going back to it needs no trying out.
    """

    name: str
    number: int
    state: RevisionState
    since: datetime
    uri: str
    version: str = ""
    digest: str = ""
    promoted: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Validated:
    """How a validation ended."""

    passed: bool
    value: str
    message: str
    at: datetime


@dataclass(frozen=True)
class Analysis:
    """How the candidate's requests have measured up.

    Attributes:
        since: the measurement under way counts requests from here.
        requests: counted so far for it.
        passed, failed: measurements of the whole rollout.
        last: the last conclusive measurement of the present step; Inconclusive where there was none.
        measured_at: the last attempt in the present step.
    """

    since: datetime
    requests: int = 0
    passed: int = 0
    failed: int = 0
    last: Verdict | None = None
    measured_at: datetime | None = None
    message: str = ""


@dataclass(frozen=True)
class Rollout:
    """The rollout that runs, or the last one that ran.

    Attributes:
        since: when the present phase or step began; moved on by the time in which the rollout was paused.
        plan: fingerprint of strategy and steps; where it changes, the steps begin anew.
        step: index of the canary step, from 0; None outside of steps.
        reached: the step's pods have been ready, so requests may be spread as it asks.
        in_force_since: when requests were first seen to be spread so; moved on like `since`.
        waiting_since: when pods began to lack; None while none do. Moved on like `since`.
        held: a pause command holds it.
        paused_at: since when it stands still, by command or by spec.paused.
        skip: steps, waits and validation are skipped.
    """

    revision: str
    phase: Phase
    started_at: datetime
    since: datetime
    plan: str = ""
    step: int | None = None
    reached: bool = False
    in_force_since: datetime | None = None
    waiting_since: datetime | None = None
    held: bool = False
    paused_at: datetime | None = None
    skip: bool = False
    validation: Validated | None = None
    analysis: Analysis | None = None
    reason: str = ""
    message: str = ""

    @property
    def under_way(self) -> bool:
        """Whether the revision has neither been promoted nor failed yet."""
        return self.phase in UNDER_WAY

    def enter(self, phase: Phase, now: datetime, step: int | None = None) -> Rollout:
        """Return this rollout at the beginning of a phase or step."""
        waits = phase in (Phase.PROGRESSING, Phase.SHIFTING, Phase.PROMOTING)
        return replace(
            self,
            phase=phase,
            step=step,
            since=now,
            reached=False,
            in_force_since=None,
            waiting_since=now if waits else None,
        )


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
class Given:
    """A command that was given, and what became of it; remembered for as long as its annotation is there."""

    command: Command
    value: str
    outcome: str
    at: datetime


@dataclass(frozen=True)
class State:
    """Which revision serves, which one is asked for, and how far the way between them has been gone."""

    stable: str | None = None
    target: str | None = None
    rollout: Rollout | None = None
    entries: tuple[Entry, ...] = ()
    history: tuple[Ended, ...] = ()
    commands: tuple[Given, ...] = ()

    def entry(self, name: str | None) -> Entry | None:
        """Return the entry of one revision, or None where it has none."""
        return next((e for e in self.entries if e.name == name), None)

    @property
    def serving(self) -> str | None:
        """The revision that answers for the model: the stable one, or before the first is, the one being tried."""
        return self.stable or self.target

    @property
    def candidate(self) -> str | None:
        """The revision that is being rolled out beside a stable one or as the first, or None."""
        rollout = self.rollout
        return rollout.revision if rollout is not None and rollout.under_way else None

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
