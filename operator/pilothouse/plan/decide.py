"""One pass, decided: what to ask, what to do to the cluster now, what to remember, what to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pilothouse.api.conditions import Reason
from pilothouse.api.parse import parse
from pilothouse.api.problems import InvalidSpec
from pilothouse.api.problems import Problem as Wrong
from pilothouse.plan import children, rollout
from pilothouse.plan.actions import Action, Notice
from pilothouse.plan.answers import Problem
from pilothouse.plan.facts import Facts, pods_of, sources
from pilothouse.plan.judging import analysed
from pilothouse.plan.memory import load
from pilothouse.plan.samples import Ask, Drifted, Samples
from pilothouse.plan.seen import Json, Seen
from pilothouse.plan.state import State
from pilothouse.plan.template import Defaults
from pilothouse_runtime.contract import PodReport


@dataclass(frozen=True)
class Decision:
    """What one pass has to do. Without `facts` (the spec is invalid) nothing is done but saying so.

    Attributes:
        facts: what the decision was taken on.
        state: what to remember.
        actions: what to do now, by the state as it was written before.
        notices: what to tell.
        problem: why nothing is done.
    """

    facts: Facts | None
    state: State
    actions: tuple[Action, ...] = ()
    notices: tuple[Notice, ...] = ()
    problem: Problem | None = None


def decide(
    seen: Seen,
    defaults: Defaults,
    now: datetime,
    samples: Samples | None = None,
    reports: Mapping[str, PodReport] | None = None,
    drift: Mapping[str, Drifted] | None = None,
) -> Decision:
    """Decide one pass from what was seen; the same arguments give the same decision.

    The actions come from the state as it was written; the transition, if one is due, only changes what is written
    next.

    Args:
        seen: what the cluster looks like.
        defaults: what the spec need not say.
        now: the time of this pass.
        samples: the answer to `questions`.
        reports: the answers of the pods that `loading.inquiries` names, by uid.
        drift: those of the pods that `drift.inquiries` names.
    """
    status = seen.body.get("status") or {}
    state = load(status)
    try:
        facts = _facts(seen, defaults, now, samples, reports, drift)
    except InvalidSpec as error:
        problem = Problem(Reason.INVALID_SPEC, str(error))
        return Decision(None, state, notices=tuple(_news(status, problem)), problem=problem)
    # Nothing is known before the first status is written, so whatever exists is not known to be unwanted.
    wanted = children.want(facts, state, defaults) if state.target else None
    step = rollout.advance(state, facts)
    return Decision(
        facts=facts,
        state=step.state if step else state,
        actions=tuple(children.actions(seen, wanted)) if wanted else (),
        notices=step.notices if step else (),
    )


def questions(seen: Seen, defaults: Defaults, now: datetime) -> Ask | None:
    """Return which requests this pass wants to have counted, or None where none are being analysed.

    Asked in every pass of an analysis, so that whoever answers knows how the counters stood when a window began.
    """
    state = load(seen.body.get("status") or {})
    try:
        facts = _facts(seen, defaults, now)
    except InvalidSpec:
        return None
    running, spec = analysed(state, facts), facts.spec.rollout.analysis
    if running is None or running.analysis is None or spec is None or state.stable is None:
        return None
    since = running.analysis.since
    words = {
        "namespace": seen.key.namespace,
        "model": seen.key.name,
        "revision": running.revision,
        "stable": state.stable,
        "window": f"{max(round((now - since).total_seconds()), 1)}s",
    }
    return Ask(
        since=since,
        pods={name: sources(pods_of(seen, name)) for name in (state.stable, running.revision)},
        queries={query.name: _filled_in(query.query, words) for query in spec.prometheus},
    )


def _filled_in(query: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        query = query.replace(f"$({word})", value)
    return query


def _facts(
    seen: Seen,
    defaults: Defaults,
    now: datetime,
    samples: Samples | None = None,
    reports: Mapping[str, PodReport] | None = None,
    drift: Mapping[str, Drifted] | None = None,
) -> Facts:
    """Return what the spec asks for beside what was seen.

    Raises:
        InvalidSpec: the spec breaks a rule, or asks for what this operator is not configured for.
    """
    spec = parse(seen.body)
    analysis = spec.rollout.analysis
    if analysis is not None and analysis.prometheus and not defaults.prometheus:
        message = "cannot be asked: the operator knows no Prometheus; set the chart's prometheus.url"
        raise InvalidSpec((Wrong("spec.rollout.analysis.prometheus", message),))
    return Facts(seen, spec, children.target_name(seen, spec), now, samples, reports or {}, drift or {})


def blocked(seen: Seen, problem: Problem) -> tuple[Notice, ...]:
    """Return what to tell people of a problem met while acting; nothing where it was told before."""
    return tuple(_news(seen.body.get("status") or {}, problem))


def _news(status: Json, problem: Problem) -> list[Notice]:
    ready: Json = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    if (ready.get("reason"), ready.get("message")) == (problem.reason, problem.message):
        return []
    return [Notice("Warning", str(problem.reason), problem.message)]
