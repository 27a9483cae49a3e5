"""Commands that people give by annotation: pilothouse.dev/COMMAND=REVISION, or REVISION:WORD.

Each names the revision that it is meant for, so that one left behind does nothing to the next. It is carried out once:
what became of it is remembered for as long as the annotation is there, and the annotation is left to whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pilothouse.api.conditions import Command, Outcome, Phase, Reason, RevisionState
from pilothouse.api.names import command_annotation
from pilothouse.plan.actions import Notice
from pilothouse.plan.facts import Facts
from pilothouse.plan.forward import next_step, promoting
from pilothouse.plan.state import Given, Rollout, State
from pilothouse.plan.steps import Step, failed, promoted, with_rollout

FULL: Final = "full"
# Who wants to stop is heard first.
_ORDER: Final = (Command.ABORT, Command.PAUSE, Command.RESUME, Command.PROMOTE, Command.RETRY)
_VALUE_SHOWN: Final = 200


@dataclass(frozen=True)
class _Done:
    """What a command did: the step that it takes, or nothing; and the words for it."""

    words: str
    step: Step | None = None


def forget(state: State, facts: Facts) -> Step | None:
    """An annotation is gone: the same command may be given again."""
    kept = tuple(g for g in state.commands if _given(facts, g.command) == g.value)
    # A changed value is a new command, whose record takes the place of the old one when it is carried out.
    kept += tuple(g for g in state.commands if _given(facts, g.command) not in (None, g.value))
    if len(kept) == len(state.commands):
        return None
    return Step(replace(state, commands=tuple(g for g in state.commands if g in kept)))


def obey(state: State, facts: Facts) -> Step | None:
    """A command was given that was not seen before: carry it out, and write down what became of it."""
    if state.target is None:
        return None  # nothing is known yet of what it may be about
    known = {g.command: g.value for g in state.commands}
    for command in _ORDER:
        value = _given(facts, command)
        if value is None or known.get(command) == value:
            continue
        done = _carry_out(command, value, state, facts)
        after = done.step or Step(state)
        given = Given(command, value, done.words, facts.now)
        others = [g for g in after.state.commands if g.command is not command]
        commands = tuple(sorted([*others, given], key=lambda g: g.command))
        told = Notice(
            "Normal" if done.step else "Warning",
            "CommandDone" if done.step else "CommandIgnored",
            f"{command} {value}: {done.words}",
        )
        return Step(replace(after.state, commands=commands), (told, *after.notices))
    return None


def _given(facts: Facts, command: Command) -> str | None:
    value = facts.annotations.get(command_annotation(command))
    return None if value is None else value.strip()[:_VALUE_SHOWN]


def _carry_out(command: Command, value: str, state: State, facts: Facts) -> _Done:
    revision, _, word = value.partition(":")
    rollout = state.rollout
    if rollout is None or revision != rollout.revision:
        now = rollout.revision if rollout else "none"
        return _Done(
            f'ignored: revision "{revision}" is not the one that is being rolled out, which is {now}'
        )
    if command is Command.RETRY:
        return _retry(state, rollout, facts)
    if not rollout.under_way:
        return _Done(f"ignored: the rollout of {revision} is {_PAST.get(rollout.phase, 'not under way')}")
    handlers: dict[Command, Callable[[State, Rollout, Facts], _Done]] = {
        Command.ABORT: _abort,
        Command.PAUSE: _pause,
        Command.RESUME: _resume,
    }
    if command is Command.PROMOTE:
        return _promote(state, rollout, facts, full=word == FULL)
    return handlers[command](state, rollout, facts)


_PAST: Final = {
    Phase.SWITCHING: "over, as it was promoted; to go back, apply the earlier spec",
    Phase.COMPLETE: "over, as it was promoted; to go back, apply the earlier spec",
    Phase.FAILED: "over, as it failed; change the spec, or annotate with retry",
}


def _abort(state: State, rollout: Rollout, facts: Facts) -> _Done:
    if state.stable is None:
        return _Done("ignored: there is no revision to go back to; delete the resource or change its spec")
    step = failed(state, facts, Reason.ABORTED, "aborted by command", Outcome.ABORTED)
    return _Done(f"aborted: all requests go to revision {state.stable}", step)


def _pause(state: State, rollout: Rollout, facts: Facts) -> _Done:
    if rollout.held:
        return _Done("ignored: it is paused already")
    return _Done("paused", with_rollout(state, replace(rollout, held=True)))


def _resume(state: State, rollout: Rollout, facts: Facts) -> _Done:
    if not rollout.held:
        why = "spec.paused is true: set it to false" if facts.spec.paused else "it is not paused by command"
        return _Done(f"ignored: {why}")
    return _Done("resumed", with_rollout(state, replace(rollout, held=False)))


def _promote(state: State, rollout: Rollout, facts: Facts, *, full: bool) -> _Done:
    if facts.spec.paused:
        return _Done("ignored: spec.paused is true: set it to false")
    # What is entered now begins now: no clock of it stood still.
    freed = replace(rollout, held=False, paused_at=None)
    if state.stable is None and not full:
        return _Done("ignored: a first revision has no steps; it serves as soon as its pods are ready")
    if full:
        words = "promoted in full: takes all requests as soon as all its pods are ready"
        return _Done(words, with_rollout(state, promoting(replace(freed, skip=True), facts.now)))
    if rollout.phase is Phase.SHIFTING and rollout.step is not None:
        words = f"step {rollout.step + 1} ended by hand"
        return _Done(words, next_step(state, freed, facts))
    if rollout.phase is Phase.AWAITING:
        state = replace(state, rollout=freed)
        switch = promoted(state, facts, ", promoted by hand") if facts.full(rollout.revision) else None
        return _Done("promoted", switch or with_rollout(state, promoting(freed, facts.now)))
    if rollout.held:
        return _Done(
            "resumed: there is no step to end yet", with_rollout(state, replace(rollout, held=False))
        )
    return _Done(f"ignored: there is no step to end in phase {rollout.phase}; {FULL} skips what is left")


def _retry(state: State, rollout: Rollout, facts: Facts) -> _Done:
    entry = state.entry(rollout.revision)
    if rollout.phase is not Phase.FAILED or entry is None or rollout.revision != facts.target:
        return _Done(
            "ignored: only a revision that failed, and that the spec still asks for, can be tried again"
        )
    given_up = replace(entry, state=RevisionState.RETIRED, since=facts.now, reason="", message="")
    again = replace(
        rollout.enter(Phase.RETRYING, facts.now), reason="", message="", analysis=None, validation=None
    )
    notice = Notice("Normal", "RolloutRetried", f"revision {rollout.revision} is tried again")
    return _Done("tried again with new pods", with_rollout(state.with_entry(given_up), again, notice))
