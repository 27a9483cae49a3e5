"""What makes a candidate fail, and what lets it go on: its pods, its validation, its requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from pilothouse.api.conditions import Phase, Reason, Verdict
from pilothouse.api.durations import seconds
from pilothouse.api.rollout import Analysis as AnalysisSpec
from pilothouse.api.rollout import fraction
from pilothouse.plan import routing
from pilothouse.plan.actions import Notice
from pilothouse.plan.causes import shorten
from pilothouse.plan.clock import after, moment
from pilothouse.plan.facts import Facts, needed
from pilothouse.plan.samples import Samples, Traffic
from pilothouse.plan.state import Analysis, Rollout, State
from pilothouse.plan.steps import Step, failed, moving, under_way, with_rollout
from pilothouse.plan.validation import NotPassed, bounds, outcome, within


@dataclass(frozen=True)
class Finding:
    """What a measurement came to."""

    verdict: Verdict
    message: str


def analysed(state: State, facts: Facts) -> Rollout | None:
    """Return the rollout whose candidate's requests are to be measured now, or None."""
    rollout = under_way(state)
    if rollout is None or facts.spec.rollout.analysis is None or rollout.analysis is None:
        return None
    shares = state.candidate in routing.route(state, facts.spec) and state.stable is not None
    return rollout if shares and rollout.phase in (Phase.SHIFTING, Phase.PROMOTING) else None


def measurement_due(analysis: Analysis, spec: AnalysisSpec) -> datetime:
    """Return when requests are to be measured next."""
    return after(max(analysis.measured_at or analysis.since, analysis.since), seconds(spec.interval))


def inconclusive(analysis: Analysis) -> bool:
    """Whether the last attempt at a measurement came to nothing. (A conclusive one begins the next at once.)"""
    return analysis.measured_at is not None and analysis.measured_at > analysis.since


def measure(state: State, facts: Facts) -> Step | None:
    """An interval has gone by: the candidate's requests are judged.

    A measurement with too few requests goes on, and the next judges all of them together. A rollout that is paused is
    measured all the same: it may have to be given up.
    """
    rollout, spec, samples = analysed(state, facts), facts.spec.rollout.analysis, facts.samples
    if rollout is None or spec is None or rollout.analysis is None or samples is None:
        return None
    analysis = rollout.analysis
    if samples.since != analysis.since or facts.now < measurement_due(analysis, spec):
        return None
    shared = len(routing.route(state, facts.spec)) > 1
    found = judge(spec, samples, rollout.revision, state.stable if shared else None)
    requests = samples.traffic.get(rollout.revision, Traffic()).requests
    analysis = replace(analysis, measured_at=facts.now, message=found.message)
    if found.verdict is Verdict.INCONCLUSIVE:
        last = analysis.last or Verdict.INCONCLUSIVE
        return with_rollout(state, replace(rollout, analysis=replace(analysis, requests=requests, last=last)))
    analysis = replace(analysis, since=facts.now, requests=0, last=found.verdict)
    if found.verdict is Verdict.GOOD:
        analysis = replace(analysis, passed=analysis.passed + 1)
        return with_rollout(state, replace(rollout, analysis=analysis))
    analysis = replace(analysis, failed=analysis.failed + 1)
    count = f"bad measurement {analysis.failed} of {spec.failure_limit}"
    state = replace(state, rollout=replace(rollout, analysis=analysis))
    if analysis.failed >= spec.failure_limit:
        return failed(state, facts, Reason.ANALYSIS_FAILED, shorten(f"{found.message} ({count})"))
    notice = Notice(
        "Warning", "MeasurementBad", shorten(f"revision {rollout.revision}, {count}: {found.message}")
    )
    return Step(state, (notice,))


def judge(spec: AnalysisSpec, samples: Samples, candidate: str, stable: str | None) -> Finding:
    """Return what a window's requests say of the candidate.

    Args:
        spec: the bounds.
        samples: what was measured.
        candidate: the revision judged.
        stable: the revision to compare it with, or None where that gets no requests by the step's own will.
    """
    mine = samples.traffic.get(candidate, Traffic())
    if mine.requests < spec.min_requests:
        return Finding(
            Verdict.INCONCLUSIVE,
            f"{mine.requests} of the {spec.min_requests} requests that a measurement needs",
        )
    theirs = samples.traffic.get(stable, Traffic()) if stable is not None else None
    findings = [*_errors(spec, mine), *_latency(spec, mine, theirs), *_answers(spec, samples)]
    bad = [f.message for f in findings if f.verdict is Verdict.BAD]
    open_ = [f.message for f in findings if f.verdict is Verdict.INCONCLUSIVE]
    if bad:
        return Finding(Verdict.BAD, "; ".join(bad))
    if open_:
        return Finding(Verdict.INCONCLUSIVE, "; ".join(open_))
    return Finding(Verdict.GOOD, "; ".join(f.message for f in findings) or f"{mine.requests} requests")


def _finding(good: bool, message: str) -> Finding:
    return Finding(Verdict.GOOD if good else Verdict.BAD, message)


def _errors(spec: AnalysisSpec, mine: Traffic) -> Iterator[Finding]:
    if spec.max_error_rate is not None:
        text = f"error rate {mine.error_rate:.2%} of {mine.requests} requests, at most {spec.max_error_rate} allowed"
        yield _finding(mine.error_rate <= fraction(spec.max_error_rate), text)


def _latency(spec: AnalysisSpec, mine: Traffic, theirs: Traffic | None) -> Iterator[Finding]:
    p99 = mine.quantile(0.99)
    if p99 is None:
        if spec.max_latency_p99 is not None or spec.max_latency_p99_increase is not None:
            yield Finding(Verdict.INCONCLUSIVE, "the revision's pods tell no latencies")
        return
    if spec.max_latency_p99 is not None:
        text = f"p99 latency {milliseconds(p99)}, at most {spec.max_latency_p99} allowed"
        yield _finding(p99 <= seconds(spec.max_latency_p99), text)
    if spec.max_latency_p99_increase is not None and theirs is not None:
        other = theirs.quantile(0.99)
        if theirs.requests < spec.min_requests or other is None:
            text = (
                f"{theirs.requests} of {spec.min_requests} requests to the stable revision, to compare with"
            )
            yield Finding(Verdict.INCONCLUSIVE, text)
            return
        most = other * (1 + fraction(spec.max_latency_p99_increase))
        text = (
            f"p99 latency {milliseconds(p99)} against {milliseconds(other)} of the stable revision, "
            f"at most {spec.max_latency_p99_increase} more allowed"
        )
        yield _finding(p99 <= most, text)


def _answers(spec: AnalysisSpec, samples: Samples) -> Iterator[Finding]:
    for query in spec.prometheus:
        value = samples.answers.get(query.name)
        if value is None:
            yield Finding(Verdict.INCONCLUSIVE, f"Prometheus gave no number for {query.name}")
            continue
        good = within(value, query.min, query.max)
        yield _finding(good, f"{query.name} is {value:g}, {bounds(query.min, query.max)} allowed")


def milliseconds(value: float) -> str:
    """Return seconds as people read a latency."""
    return f"{value * 1000:.3g}ms" if value < 1 else f"{value:.3g}s"


def validate(state: State, facts: Facts) -> Step | None:
    """The validation has ended, one way or the other."""
    rollout, spec = under_way(state), facts.spec.rollout.validation
    if (
        rollout is None
        or rollout.phase is not Phase.VALIDATING
        or rollout.validation is not None
        or spec is None
    ):
        return None
    match outcome(facts.seen, spec, rollout, facts.now):
        case None:
            return None
        case NotPassed(reason, message):
            return failed(state, facts, reason, message)
        case passed:
            notice = Notice("Normal", "ValidationPassed", f"revision {rollout.revision}: {passed.message}")
            # Its pods may have gone meanwhile: they are waited for as before.
            again = replace(rollout.enter(Phase.PROGRESSING, facts.now), validation=passed)
            return with_rollout(state, again, notice)


def fail(state: State, facts: Facts) -> Step | None:
    """The new revision's pods cannot come up, or not in time: the stable one keeps the traffic."""
    rollout = under_way(state)
    entry = state.entry(state.candidate)
    deployment = facts.seen.deployment(rollout.revision) if rollout else None
    if rollout is None or entry is None or deployment is None:
        return None
    found = facts.diagnosis(rollout.revision)
    final = found is not None and found.final
    ready, wants = facts.ready(rollout.revision), needed(rollout, state, facts.spec)
    limit = deadline(rollout, facts)
    # On the way back it is to have ever fewer pods.
    late = limit is not None and facts.now >= limit and ready < wants and not facts.returning(state)
    if not late and not final:
        return None
    if found is None:
        counted = f"{ready} of {wants} pods ready"
        text = f"{counted} when the progress deadline of {facts.spec.rollout.progress_deadline} ended"
        return failed(state, facts, Reason.PROGRESS_DEADLINE_EXCEEDED, text)
    # What the registry said before it was only backing off is worth more than the back-off.
    text = entry.message if found.vague and entry.reason == found.reason and entry.message else found.message
    if late and not final:
        text = shorten(f"{text} (progress deadline of {facts.spec.rollout.progress_deadline} exceeded)")
    return failed(state, facts, found.reason, text)


def deadline(rollout: Rollout, facts: Facts) -> datetime | None:
    """Return when pods will have been lacking for too long, or None where none lack or the rollout is paused.

    Time in which no operator could look does not count: what a first look after it shows may be as old as that time.
    """
    deployment = facts.seen.deployment(rollout.revision)
    if deployment is None or rollout.waiting_since is None or rollout.paused_at is not None:
        return None
    began = max(rollout.waiting_since, moment(deployment["metadata"]["creationTimestamp"]))
    away = facts.seen.away
    blind = away.seconds_from(began) if away else 0.0
    return after(began, seconds(facts.spec.rollout.progress_deadline) + blind)


def lack(state: State, facts: Facts) -> Step | None:
    """Pods that the candidate needs have gone missing, or have come back: the progress deadline counts while they lack.

    Where pods come one by one, each that becomes ready starts it anew.
    """
    rollout = moving(state)
    if rollout is None or rollout.phase is Phase.VALIDATING:
        return None
    lacking = facts.ready(rollout.revision) < needed(rollout, state, facts.spec)
    if facts.idle(state):
        return (
            None
            if rollout.waiting_since is None
            else with_rollout(state, replace(rollout, waiting_since=None))
        )
    if lacking and (rollout.waiting_since is None or _one_more(state, facts)):
        return with_rollout(state, replace(rollout, waiting_since=facts.now))
    settled = rollout.phase in (Phase.AWAITING, Phase.PROMOTING) or rollout.in_force_since is not None
    if not lacking and settled and rollout.waiting_since is not None:
        return with_rollout(state, replace(rollout, waiting_since=None))
    return None


def _one_more(state: State, facts: Facts) -> bool:
    if state.rollout is None or facts.spec.rollout.surge is None:
        return False
    told = (facts.seen.body.get("status") or {}).get("revisions", ())
    before = next((e.get("readyReplicas", 0) for e in told if e["name"] == state.candidate), 0)
    return facts.ready(state.candidate) > int(before)
