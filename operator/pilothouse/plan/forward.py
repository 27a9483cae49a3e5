"""How a rollout goes on: from pods to validation, to a share of the requests, step by step, to all of them.

None of these transitions is taken while the rollout is paused, and none on the strength of what is not there: pods that
lack, a measurement that was not made.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pilothouse.api.conditions import Phase, Reason, RevisionState, Verdict
from pilothouse.api.durations import seconds
from pilothouse.api.rollout import Against, OnInconclusive, Strategy
from pilothouse.api.rollout import Step as StepSpec
from pilothouse.plan import endpoints, routing
from pilothouse.plan.actions import Notice
from pilothouse.plan.clock import after
from pilothouse.plan.facts import Facts, limited_surge, needed
from pilothouse.plan.judging import inconclusive
from pilothouse.plan.sizes import aside
from pilothouse.plan.state import Analysis, Rollout, State
from pilothouse.plan.steps import Step, begin, failed, moving, promoted, under_way, with_rollout


def hold(state: State, facts: Facts) -> Step | None:
    """spec.paused or a pause command stops the rollout's clocks, or lets them go on where they stood."""
    rollout = under_way(state)
    if rollout is None:
        return None
    # A command holds what it names, and nothing that the spec asks for in its place.
    wanted = facts.spec.paused or (rollout.held and facts.target == state.target)
    if wanted and rollout.paused_at is None:
        notice = Notice("Normal", "RolloutPaused", f"the rollout of revision {rollout.revision} is paused")
        return with_rollout(state, replace(rollout, paused_at=facts.now), notice)
    if wanted or rollout.paused_at is None:
        return None
    stood = facts.now - rollout.paused_at
    went_on = replace(
        rollout,
        paused_at=None,
        since=rollout.since + stood,
        in_force_since=_later(rollout.in_force_since, stood),
        waiting_since=_later(rollout.waiting_since, stood),
    )
    notice = Notice("Normal", "RolloutResumed", f"the rollout of revision {rollout.revision} goes on")
    return with_rollout(state, went_on, notice)


def _later(since: datetime | None, stood: timedelta) -> datetime | None:
    return None if since is None else since + stood


def replan(state: State, facts: Facts) -> Step | None:
    """The strategy or its steps were changed under way: the steps begin anew, with no requests to the candidate."""
    rollout, plan = moving(state), routing.plan_of(facts.spec)
    if rollout is None or rollout.plan == plan or routing.by_pods(rollout):
        return None
    message = f"spec.rollout was changed: the rollout of revision {rollout.revision} begins anew"
    anew = replace(rollout.enter(Phase.PROGRESSING, facts.now), plan=plan, analysis=None)
    return with_rollout(state, anew, Notice("Normal", "RolloutReplanned", message))


def restart(state: State, facts: Facts) -> Step | None:
    """A revision is tried again, and nothing is left of the last try: it begins."""
    rollout = state.rollout
    if rollout is None or rollout.phase is not Phase.RETRYING or facts.spec.paused:
        return None
    if facts.seen.deployment(rollout.revision) is not None or facts.seen.job(rollout.revision) is not None:
        return None
    return Step(begin(state, facts))


def revive(state: State, facts: Facts) -> Step | None:
    """A first revision that failed for want of pods has come up after all: better late than never."""
    rollout = state.rollout
    if state.stable is not None or rollout is None or rollout.phase is not Phase.FAILED or facts.spec.paused:
        return None
    judged = (Reason.VALIDATION_FAILED, Reason.VALIDATION_NOT_DONE, Reason.ABORTED)
    if rollout.reason in judged or not facts.full(rollout.revision) or facts.replicas == 0:
        return None
    entry = state.entry(rollout.revision)
    if entry is None:
        return None
    state = state.with_entry(
        replace(entry, state=RevisionState.CANDIDATE, since=facts.now, reason="", message="")
    )
    return with_rollout(state, replace(rollout.enter(Phase.PROGRESSING, facts.now), reason="", message=""))


def take_over(state: State, facts: Facts) -> Step | None:
    """The stable revision serves nobody: nothing is gained by steps and waits, so one ready pod is enough.

    What has to be validated still is, as a wrong answer is not better than none; but not against the stable revision.
    """
    rollout = moving(state)
    if rollout is None or state.stable is None or state.stable == rollout.revision or facts.replicas == 0:
        return None
    if facts.ready(state.stable) > 0 or facts.reachable(rollout.revision) == 0 or facts.returning(state):
        return None
    gate = routing.gate(state, facts.spec)
    comparable = gate is not None and gate.against is Against.EXPECTED
    if comparable and _to_validate(state, rollout, facts):
        if rollout.phase is Phase.VALIDATING:
            return None
        return with_rollout(state, rollout.enter(Phase.VALIDATING, facts.now))
    by_design = limited_surge(facts.spec) is not None
    return promoted(state, facts, "" if by_design else ", as the stable revision serves nobody")


def begin_validation_anew(state: State, facts: Facts) -> Step | None:
    """The model was scaled to zero while the candidate was being validated: there is nobody left to answer."""
    rollout = moving(state)
    if rollout is None or rollout.phase is not Phase.VALIDATING or not facts.idle(state):
        return None
    return with_rollout(state, replace(rollout.enter(Phase.PROGRESSING, facts.now), waiting_since=None))


def progress(state: State, facts: Facts) -> Step | None:
    """The first pods are ready: they are validated, or what the strategy says comes next."""
    rollout = moving(state)
    if rollout is None or rollout.phase is not Phase.PROGRESSING or facts.idle(state):
        return None
    if facts.seen.deployment(rollout.revision) is None:
        return None
    if facts.reachable(rollout.revision) < needed(rollout, state, facts.spec):
        return None
    if _to_validate(state, rollout, facts):
        return with_rollout(state, rollout.enter(Phase.VALIDATING, facts.now))
    return _past_validation(state, rollout, facts)


def _to_validate(state: State, rollout: Rollout, facts: Facts) -> bool:
    return routing.gate(state, facts.spec) is not None and not rollout.skip and rollout.validation is None


def _past_validation(state: State, rollout: Rollout, facts: Facts) -> Step | None:
    way = facts.spec.rollout
    if state.stable is not None and not rollout.skip:
        if way.strategy is Strategy.CANARY:
            return _enter_step(state, rollout, facts, 0)
        if way.strategy is Strategy.BLUE_GREEN and not way.auto_promote:
            return with_rollout(state, rollout.enter(Phase.AWAITING, facts.now))
    if (
        state.stable is not None
        and limited_surge(facts.spec) is not None
        and not facts.full(rollout.revision)
    ):
        return with_rollout(state, rollout.enter(Phase.SHIFTING, facts.now))
    if facts.full(rollout.revision):
        return promoted(state, facts, "")
    return with_rollout(state, rollout.enter(Phase.PROMOTING, facts.now))


def _enter_step(state: State, rollout: Rollout, facts: Facts, index: int) -> Step:
    steps = facts.spec.rollout.steps
    if index >= len(steps):
        return with_rollout(state, promoting(rollout, facts.now))
    weight = routing.step_weight(facts.spec.rollout, index)
    message = f"step {index + 1} of {len(steps)}: {weight}% of the requests to revision {rollout.revision}"
    entered = rollout.enter(Phase.SHIFTING, facts.now, index)
    return with_rollout(state, entered, Notice("Normal", "StepStarted", message))


def promoting(rollout: Rollout, now: datetime) -> Rollout:
    """Return the rollout on its way to full size, its requests spread as in the last step that came into force."""
    step = rollout.step
    if step is not None and not rollout.reached:
        step = step - 1 if step > 0 else None
    return replace(rollout.enter(Phase.PROMOTING, now, step), reached=step is not None)


def reach(state: State, facts: Facts) -> Step | None:
    """The pods of the step are ready, and no others are in the way: requests may be spread as it asks."""
    rollout = moving(state)
    if rollout is None or rollout.phase is not Phase.SHIFTING or rollout.reached or facts.idle(state):
        return None
    by_pods = routing.by_pods(rollout)
    wanted = 1 if by_pods else needed(rollout, state, facts.spec)
    if facts.reachable(rollout.revision) < wanted:
        return None
    mixes = by_pods or 0 < routing.step_weight(facts.spec.rollout, rollout.step or 0) < 100
    if mixes and not facts.alone(state.stable, rollout.revision):
        return None
    return with_rollout(state, replace(rollout, reached=True))


def settle(state: State, facts: Facts) -> Step | None:
    """Requests are seen to be spread as the step asks: from now its time counts, and so do its requests."""
    rollout = moving(state)
    if rollout is None or rollout.phase is not Phase.SHIFTING or not rollout.reached or facts.idle(state):
        return None
    analysed = facts.spec.rollout.analysis is not None
    known = rollout.in_force_since is not None and (rollout.analysis is not None or not analysed)
    if known or rollout.step is None:
        return None
    if not endpoints.follow(facts.seen, routing.route(state, facts.spec)) or not aside(facts, state):
        return None
    settled = replace(rollout, in_force_since=rollout.in_force_since or facts.now)
    if analysed:
        old = rollout.analysis or Analysis(facts.now)
        fresh = Analysis(facts.now, passed=old.passed, failed=old.failed)
        settled = replace(settled, analysis=fresh)
    return with_rollout(state, settled)


def end_step(state: State, facts: Facts) -> Step | None:
    """The step has lasted as long as it should, its pods are there, and its requests were found good."""
    rollout = moving(state)
    if rollout is None or rollout.step is None or rollout.phase is not Phase.SHIFTING or facts.idle(state):
        return None
    step = _step(facts, rollout)
    if rollout.in_force_since is None or facts.ready(rollout.revision) < needed(rollout, state, facts.spec):
        return None
    if step is None or step.pause or facts.now < step_end(rollout.in_force_since, step):
        return None
    analysis, spec = rollout.analysis, facts.spec.rollout.analysis
    if spec is None or state.candidate not in routing.route(state, facts.spec):
        return _enter_step(state, rollout, facts, rollout.step + 1)
    if analysis is None:
        return None
    if analysis.last is Verdict.GOOD:
        return _enter_step(state, rollout, facts, rollout.step + 1)
    if not inconclusive(analysis):
        return None
    told = f"step {rollout.step + 1} ended with {analysis.message}"
    if spec.on_inconclusive is OnInconclusive.ROLLBACK:
        return failed(state, facts, Reason.ANALYSIS_INCONCLUSIVE, told)
    # One that was bad before is not made up for by nothing.
    if spec.on_inconclusive is OnInconclusive.PROMOTE and analysis.last is Verdict.INCONCLUSIVE:
        moved = _enter_step(state, rollout, facts, rollout.step + 1)
        notice = Notice("Warning", "AnalysisInconclusive", f"{told}: goes on, as onInconclusive says")
        return replace(moved, notices=(notice, *moved.notices))
    return None


def _step(facts: Facts, rollout: Rollout) -> StepSpec | None:
    steps = facts.spec.rollout.steps
    return steps[rollout.step] if rollout.step is not None and rollout.step < len(steps) else None


def step_end(in_force_since: datetime, step: StepSpec) -> datetime:
    """Return when a step's own time is over."""
    return after(in_force_since, seconds(step.for_ or "0s"))


def next_step(state: State, rollout: Rollout, facts: Facts) -> Step:
    """Return the step to the canary's next step, or to its promotion: somebody asked for it by hand."""
    return _enter_step(state, rollout, facts, (rollout.step or 0) + 1)


def promote(state: State, facts: Facts) -> Step | None:
    """The candidate has passed and has all its pods: it becomes the stable revision."""
    rollout = moving(state)
    if rollout is None or facts.idle(state) or not facts.full(rollout.revision):
        return None
    return (
        promoted(state, facts, "") if routing.by_pods(rollout) or rollout.phase is Phase.PROMOTING else None
    )
