"""How far pods are that do not serve yet, and how long it took those that do: by their own word, at READY_PATH.

What is shown of it must not lead to a write each time that a byte has arrived. So words stay as they are for some
seconds, unless a later phase was reached; and for as long as pods are waited for that say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pilothouse.api.conditions import RevisionState
from pilothouse.plan.causes import shorten
from pilothouse.plan.clock import moment, stamp
from pilothouse.plan.facts import Facts, pods_of, sources
from pilothouse.plan.memory import load
from pilothouse.plan.samples import Source
from pilothouse.plan.seen import Json, Seen, is_ready
from pilothouse.plan.state import Entry
from pilothouse.plan.template import CONTAINER
from pilothouse_runtime.contract import FETCH_CONTAINER, FETCH_DRIFT_CONTAINER, Phase, PodReport

_ORDER: Final = tuple(Phase)
_BEFORE_READY: Final = _ORDER[: _ORDER.index(Phase.READY)]
_COMES_UP: Final = (RevisionState.CANDIDATE, RevisionState.STABLE)
_SECONDS_BETWEEN: Final = 5.0
_MESSAGE_LIMIT: Final = 300


def inquiries(seen: Seen) -> tuple[Source, ...]:
    """Return the pods to ask in this pass: those that run but are not ready, and once one that has become ready."""
    pods: list[Json] = []
    for entry in load(seen.body.get("status") or {}).entries:
        if entry.state in _COMES_UP:
            there = pods_of(seen, entry.name)
            pods += _waiting(there)
            if _just_ready(_before(seen, entry)):
                pods += [pod for pod in there if is_ready(pod)][:1]
    return sources(pods)


def _just_ready(before: Json) -> bool:
    """Whether no pod of a revision was ready yet when the status was written: only then one is asked that is."""
    return not before.get("readyReplicas") and "phases" not in before


def shown(seen: Seen, entry: Entry, reports: Mapping[str, PodReport], now: datetime) -> Json:
    """Return what the status is to say of a revision's pods, by what they said in this pass (by uid) and before."""
    if entry.state not in _COMES_UP:
        return {}
    pods, before = pods_of(seen, entry.name), _before(seen, entry)
    there = {"loading": _loading(pods, reports, before.get("loading"), now)} | _took(pods, reports, before)
    return {field: value for field, value in there.items() if value}


def sentence(facts: Facts, entry: Entry | None) -> str:
    """Return what pods are waited for to do, such as "Pulling: 3 of 9 bytes of http://..."; "" if that is not known."""
    if entry is None:
        return ""
    loading: Json = shown(facts.seen, entry, facts.reports, facts.now).get("loading", {})
    return ": ".join(loading[field] for field in ("phase", "message") if loading.get(field))


def _before(seen: Seen, entry: Entry) -> Json:
    """Return what the status says of this try of a revision; a new try has a new number."""
    revisions = (seen.body.get("status") or {}).get("revisions", ())
    found = (e for e in revisions if e["name"] == entry.name and e["number"] == entry.number)
    return next(found, {})


def _waiting(pods: Sequence[Json]) -> list[Json]:
    return [pod for pod in pods if not is_ready(pod) and _runs(pod)]


def _runs(pod: Json) -> bool:
    status = pod.get("status", {})
    containers = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    talking = (CONTAINER, FETCH_CONTAINER, FETCH_DRIFT_CONTAINER)
    return any(c["name"] in talking and "running" in (c.get("state") or {}) for c in containers)


def _loading(
    pods: Sequence[Json], reports: Mapping[str, PodReport], before: Json | None, now: datetime
) -> Json | None:
    """Return what the least advanced pod does."""
    waiting = {pod["metadata"]["uid"] for pod in _waiting(pods)}
    loading = {u: report for u, report in reports.items() if u in waiting and report.phase in _BEFORE_READY}
    if not waiting:
        return None
    if not loading:
        return before
    # Of several in one phase always the same one, so that the words do not jump to and fro between them.
    _, uid = min((_ORDER.index(report.phase), uid) for uid, report in loading.items())
    news = _described(loading[uid], sum(r.phase is loading[uid].phase for r in loading.values()))
    if before is not None and not _worth_a_write(news, before, now):
        return before
    return news | {"observedAt": stamp(now)}


def _described(report: PodReport, pods: int) -> Json:
    message = shorten(report.message, _MESSAGE_LIMIT)
    said: Json = {"phase": str(report.phase), "since": _time(report.since), "pods": pods}
    return said | ({"message": message} if message else {})


def _worth_a_write(news: Json, before: Json, now: datetime) -> bool:
    if before == news | {"observedAt": before["observedAt"]}:
        return False
    if before["phase"] not in _BEFORE_READY or _later(news["phase"], before["phase"]):
        return True
    return not 0 <= (now - moment(before["observedAt"])).total_seconds() < _SECONDS_BETWEEN


def _later(phase: str, than: str) -> bool:
    return _ORDER.index(Phase(phase)) > _ORDER.index(Phase(than))


def _took(pods: Sequence[Json], reports: Mapping[str, PodReport], before: Json) -> Json:
    """Return how long the phases up to Ready took in the pod that was asked when it had become ready."""
    kept: Json = {field: before[field] for field in ("loadTime", "phases") if field in before}
    if not _just_ready(before):
        return kept
    ready = (reports.get(pod["metadata"]["uid"]) for pod in pods if is_ready(pod))
    report = next((r for r in ready if r is not None and r.phase is Phase.READY), None)
    if report is None:
        return kept
    took = [
        (p.phase, p.seconds) for p in report.history if p.phase in _BEFORE_READY and p.seconds is not None
    ]
    return {
        "loadTime": _duration(sum(seconds for _, seconds in took)),
        "phases": [{"phase": str(phase), "took": _duration(seconds)} for phase, seconds in took],
    }


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def _time(unix: float) -> str:
    return stamp(datetime.fromtimestamp(unix, UTC))
