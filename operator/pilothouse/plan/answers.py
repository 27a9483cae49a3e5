"""The two questions that a status answers: does something serve, and has my change converged?

Conditions follow kstatus (sigs.k8s.io/cli-utils/pkg/kstatus): `Ready` is always there, `Reconciling` and
`Stalled` only while true, each with the generation that it speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import floor

from pilothouse.api.conditions import ConditionType, Phase, Reason
from pilothouse.api.names import command_annotation
from pilothouse.plan import loading, routing
from pilothouse.plan.causes import Diagnosis, diagnose
from pilothouse.plan.clock import stamp
from pilothouse.plan.facts import Facts, limited_surge, needed, pods_of
from pilothouse.plan.forward import step_end
from pilothouse.plan.judging import inconclusive
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import Entry, Rollout, State

# Kubernetes' own rule for a Deployment: available while at most a quarter of the pods is missing.
_MAX_UNAVAILABLE = 0.25


@dataclass(frozen=True)
class Problem:
    """What keeps a pass from doing its work: an invalid spec, or something in the way that the API server named."""

    reason: str
    message: str


@dataclass(frozen=True)
class Finding:
    """The answer to one of the two questions."""

    true: bool
    reason: str
    message: str
    stalled: bool = False


def available(ready_pods: int, desired: int, serving: str | None) -> Finding:
    """Say whether enough pods get requests now, of whichever revision."""
    if desired == 0 and serving is not None:
        return Finding(True, Reason.SCALED_TO_ZERO, "spec.replicas is 0: no pods are wanted")
    enough = max(desired - floor(desired * _MAX_UNAVAILABLE), 1)
    message = f"{ready_pods} of {desired} pods ready"
    if ready_pods >= enough:
        return Finding(True, Reason.ENOUGH_PODS_READY, message)
    return Finding(False, Reason.TOO_FEW_PODS_READY, f"{message}, at least {enough} needed")


def ready(facts: Facts | None, state: State, problem: Problem | None) -> Finding:
    """Say whether the revision that the spec asks for serves all the traffic, else what that waits for."""
    if problem is not None or facts is None:
        reason, message = (problem.reason, problem.message) if problem else (Reason.PROGRESSING, "")
        return Finding(False, reason, message, stalled=True)
    rollout, target = state.rollout, state.target
    if facts.spec.paused and facts.target != target:
        held = f"spec.paused is true: the rollout of revision {facts.target} begins when it is false"
        return Finding(False, Reason.PAUSED, held + _keeps(facts, state, facts.target))
    if facts.returning(state):
        return Finding(False, Reason.SHIFTING, f"going back to revision {facts.target} pod by pod")
    if target is None or rollout is None or facts.target != target:
        text = f"the rollout of revision {facts.target} begins"
        return Finding(False, Reason.PROGRESSING, text + _keeps(facts, state, facts.target))
    keeps = _keeps(facts, state, target)
    if rollout.phase is Phase.FAILED:
        way_out = (
            f"; change the spec, or try again with {command_annotation('retry')}={target}"
            if state.stable
            else ""
        )
        text = f"revision {target} failed: {rollout.message}{keeps}{way_out}"
        return Finding(False, rollout.reason, text, stalled=True)
    if state.stable == target:
        return _converged(facts, state, rollout, target)
    waits = _waits(facts, state, rollout, target)
    return Finding(False, waits.reason, f"{waits.message}{keeps}{_given_up(facts, state)}")


def _keeps(facts: Facts, state: State, target: str) -> str:
    """Say who answers meanwhile."""
    to = routing.route(state, facts.spec)
    if state.stable is None or state.stable == target or state.stable not in to:
        return ""
    return f"; revision {state.stable} keeps {'the rest of ' if len(to) > 1 else ''}the traffic"


def _given_up(facts: Facts, state: State) -> str:
    """Say what a rollout without room costs while it lasts."""
    if limited_surge(facts.spec) != 0 or state.stable is None or facts.replicas == 0:
        return ""
    if facts.replicas == 1:
        return "; surge is 0: the old pod goes first, and nobody answers until the new one is ready"
    return f"; surge is 0: at most {facts.replicas - 1} of {facts.replicas} pods answer meanwhile"


def _converged(facts: Facts, state: State, rollout: Rollout, target: str) -> Finding:
    """The revision asked for is the stable one: all is well once all requests go there, to all its pods."""
    if rollout.phase is not Phase.COMPLETE or not routing.in_force(facts.seen, (target,)):
        return _switching(facts, target)
    count, desired = facts.ready(target), facts.replicas
    counted = f"{count} of {desired} pods ready"
    if count >= desired:
        if desired == 0:
            return Finding(True, Reason.SCALED_TO_ZERO, "spec.replicas is 0: no pods are wanted")
        return Finding(True, Reason.SERVING, f"revision {target} serves all traffic, {counted}")
    cause = trouble(facts.seen, state, target)
    if cause is not None:
        return Finding(False, cause[0], f"revision {target}, {counted}: {cause[1]}")
    return Finding(False, Reason.PROGRESSING, f"revision {target}, {counted}{_doing(facts, state, target)}")


def _switching(facts: Facts, target: str) -> Finding:
    text = f"traffic is being moved to revision {target}"
    if routing.in_force(facts.seen, (target,)):
        text += f": the EndpointSlices of Service {facts.seen.key.name} do not name its pods alone yet"
    return Finding(False, Reason.SWITCHING, text)


def _waits(facts: Facts, state: State, rollout: Rollout, target: str) -> Finding:
    """Say what the rollout of `target` waits for."""
    if rollout.paused_at is not None:
        how = (
            "set spec.paused to false"
            if facts.spec.paused
            else f"annotate {command_annotation('resume')}={target}"
        )
        return Finding(False, Reason.PAUSED, f"the rollout of revision {target} is paused; to go on, {how}")
    if rollout.phase is Phase.SWITCHING:
        return _switching(facts, target)
    if rollout.phase is Phase.RETRYING:
        return Finding(
            False, Reason.PROGRESSING, f"revision {target} is tried again once its old pods are gone"
        )
    if facts.idle(state):
        text = (
            f"spec.replicas is 0: the rollout of revision {target} goes on when there are pods to try it with"
        )
        return Finding(False, Reason.PROGRESSING, text)
    count, wants = facts.ready(target), needed(rollout, state, facts.spec)
    counted = f"revision {target}, {count} of {wants} pods ready"
    cause = trouble(facts.seen, state, target)
    if cause is not None:
        return Finding(False, cause[0], f"{counted}: {cause[1]}")
    if count < wants:
        return Finding(False, Reason.PROGRESSING, counted + _doing(facts, state, target))
    known = facts.reachable(target)
    late = (
        f", but the EndpointSlices of Service {target} name {known} of them so far" if known < wants else ""
    )
    return next(_waiting_in(facts, rollout, target), Finding(False, Reason.PROGRESSING, counted + late))


def _doing(facts: Facts, state: State, revision: str) -> str:
    """Say what the pods do that are waited for, where they tell."""
    said = loading.sentence(facts, state.entry(revision))
    return f": {said}" if said else ""


def _waiting_in(facts: Facts, rollout: Rollout, target: str) -> Iterator[Finding]:
    """Yield what is waited for with all pods there."""
    by_hand = f"to go on, annotate {command_annotation('promote')}={target}"
    match rollout.phase:
        case Phase.VALIDATING:
            yield Finding(False, Reason.VALIDATING, f"revision {target} is asked the golden data set")
        case Phase.AWAITING:
            text = f"revision {target} is ready to take over and waits for a promotion; {by_hand}"
            yield Finding(False, Reason.WAITING_FOR_PROMOTION, text)
        case Phase.SHIFTING if rollout.step is not None and rollout.step < len(facts.spec.rollout.steps):
            yield _in_step(facts, rollout, rollout.step, f"{by_hand}:{rollout.step + 1}")


def _in_step(facts: Facts, rollout: Rollout, index: int, by_hand: str) -> Finding:
    steps = facts.spec.rollout.steps
    step, weight = steps[index], routing.step_weight(facts.spec.rollout, index)
    where = f"step {index + 1} of {len(steps)}, {weight}% of the requests to revision {rollout.revision}"
    if rollout.in_force_since is None:
        return Finding(False, Reason.SHIFTING, f"{where}: on the way there")
    if step.pause:
        return Finding(False, Reason.WAITING_FOR_PROMOTION, f"{where}, waits for a promotion; {by_hand}")
    over = facts.now >= step_end(rollout.in_force_since, step)
    if over and rollout.analysis is not None:
        found = rollout.analysis.message or "the first measurement is not made yet"
        if inconclusive(rollout.analysis):
            text = f"{where}, ended with {found}; waits for more requests, or {by_hand}"
            return Finding(False, Reason.ANALYSIS_INCONCLUSIVE, text)
        return Finding(False, Reason.SHIFTING, f"{where}, until a measurement is good: {found}")
    lasts = f" for {step.for_}" if step.for_ else ""
    return Finding(False, Reason.SHIFTING, f"{where}{lasts}")


def trouble(seen: Seen, state: State, revision: str) -> tuple[str, str] | None:
    """Return the reason and message to show for a revision that should be coming up, or None where nothing is wrong."""
    found = diagnose(pods_of(seen, revision), seen.deployment(revision))
    return _keep_clear(found, state.entry(revision)) if found else None


def _keep_clear(found: Diagnosis, entry: Entry | None) -> tuple[str, str]:
    """A vague message never takes the place of a clear one of the same reason."""
    if found.vague and entry is not None and entry.reason == found.reason and entry.message:
        return entry.reason, entry.message
    return found.reason, found.message


def conditions(seen: Seen, is_ready: Finding, is_available: Finding, now: datetime) -> list[Json]:
    """Return the conditions, each with the time of its last change of status."""
    wanted: list[tuple[ConditionType, bool, str, str]] = [
        (ConditionType.AVAILABLE, is_available.true, is_available.reason, is_available.message),
        (ConditionType.READY, is_ready.true, is_ready.reason, is_ready.message),
    ]
    if is_ready.stalled:
        wanted.append((ConditionType.STALLED, True, is_ready.reason, is_ready.message))
    elif not is_ready.true:
        wanted.append((ConditionType.RECONCILING, True, is_ready.reason, is_ready.message))
    before = {c["type"]: c for c in (seen.body.get("status") or {}).get("conditions", ())}
    written: list[Json] = []
    for kind, true, reason, message in wanted:
        word = "True" if true else "False"
        old = before.get(kind)
        since = old["lastTransitionTime"] if old and old.get("status") == word else stamp(now)
        written.append(
            {
                "type": str(kind),
                "status": word,
                "reason": str(reason),
                "message": message,
                "observedGeneration": seen.generation,
                "lastTransitionTime": since,
            }
        )
    return written
