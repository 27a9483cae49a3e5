"""How far the requests of the serving revision are from its golden data set, by its pods' own metrics.

The index moves with every request, and the status must not: what is written is its level, and the words of the moment
when it changed. Between two levels there is a gap, so that an index at the edge does not write all the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from pilothouse.api.conditions import DriftLevel, RevisionState
from pilothouse.plan.causes import shorten
from pilothouse.plan.clock import stamp
from pilothouse.plan.facts import Facts, pods_of, sources
from pilothouse.plan.memory import load
from pilothouse.plan.samples import Drifted, Source
from pilothouse.plan.seen import Json, Seen, is_ready
from pilothouse.plan.state import Entry, State

LOOK: Final = timedelta(seconds=60)
_MAJOR: Final = 0.25
_GAP: Final = 0.8  # of a bound: below that, a level is left again
_MOST_WORDS: Final = 100  # characters, of names in somebody's image
_MOST_PODS: Final = 8  # that are asked, of however many

_ORDER: Final = tuple(DriftLevel)


def inquiries(seen: Seen) -> tuple[Source, ...]:
    """Return the pods to ask in this pass: some of the revision that serves and is asked for, if it has a profile."""
    state = load(seen.body.get("status") or {})
    runtime = seen.body["spec"].get("runtime")
    if not (isinstance(runtime, dict) and runtime.get("drift")) or not _settled(state):
        return ()
    return sources(pod for pod in pods_of(seen, state.stable) if is_ready(pod))[:_MOST_PODS]


def watched(state: State, facts: Facts) -> bool:
    """Whether pods are to be asked again although nothing happens."""
    return facts.spec.runtime.drift is not None and _settled(state)


def shown(seen: Seen, entry: Entry, facts: Facts | None) -> Json:
    """Return what the status is to say of a revision's drift."""
    if entry.state is not RevisionState.STABLE:
        return {}
    revisions = (seen.body.get("status") or {}).get("revisions", ())
    before: Json = next((e["drift"] for e in revisions if e["name"] == entry.name and "drift" in e), {})
    if facts is None or entry.name != facts.target or facts.spec.runtime.drift is None:
        return {"drift": before} if before else {}
    found = _worst(facts.drift)
    if found is None:
        return {"drift": before} if before else {}
    where, index, threshold = found
    level = _level(index, threshold)
    was = DriftLevel(before["level"]) if before else None
    if was is not None and _ORDER.index(level) < _ORDER.index(was):
        level = min(was, _level(index / _GAP, threshold), key=_ORDER.index)
    if level is was:
        return {"drift": before}
    rows = sum(pod.rows for pod in facts.drift.values())
    said = f"{where} has the index {index:.2f} ({threshold:.2f} is not by chance) after {rows:,} rows"
    return {"drift": {"level": str(level), "message": said, "since": stamp(facts.now)}}


def _settled(state: State) -> bool:
    return state.stable is not None and state.stable == state.target


def _level(index: float, threshold: float) -> DriftLevel:
    if index <= threshold:
        return DriftLevel.NONE
    return DriftLevel.MAJOR if index >= _MAJOR else DriftLevel.MODERATE


def _worst(pods: Mapping[str, Drifted]) -> tuple[str, float, float] | None:
    """Return the column whose index is farthest above its threshold: where, index, threshold; means over the pods."""
    told = sorted({column for pod in pods.values() for column in pod.columns})
    found = []
    for column in told:
        pairs = [pod.columns[column] for pod in pods.values() if column in pod.columns]
        index, threshold = (sum(numbers) / len(pairs) for numbers in zip(*pairs, strict=True))
        found.append((shorten(" ".join(column), _MOST_WORDS), index, threshold))
    return max(found, key=lambda one: one[1] / one[2], default=None)
