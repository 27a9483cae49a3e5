"""Plays the users of a model: their requests, and how the pods of each revision answer them, in virtual time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pilothouse.api.names import LABEL_REVISION
from pilothouse.plan.seen import Json


@dataclass(frozen=True)
class Temper:
    """How a revision answers.

    Attributes:
        errors: share of the requests that end in a 5xx.
        seconds: how long each request takes.
    """

    errors: float = 0.0
    seconds: float = 0.02


@dataclass(frozen=True)
class Spell:
    """What one pod answered in a stretch of time, evenly spread."""

    began: datetime
    ended: datetime
    requests: float
    errors: float
    seconds: float


class PlayedTraffic:
    """Requests to one model, shared evenly among the ready pods that its Service selects.

    Attributes:
        rate: requests a second.
        tempers: how the revisions answer; well where there is none. It may change at any time.
        silent: revisions of which no pod can be asked for its metrics.
        answers: what Prometheus says, by the name of the query.
        answered: requests that each revision got so far.
        lost: requests that found no pod.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.tempers: dict[str, Temper] = {}
        self.silent: set[str] = set()
        self.answers: dict[str, float] = {}
        self.answered: defaultdict[str, float] = defaultdict(float)
        self.lost = 0.0
        self._spells: dict[str, list[Spell]] = {}

    def flow(self, began: datetime, ended: datetime, pods: Sequence[Json]) -> None:
        """Let requests come from `began` to `ended`, in which these pods are behind the Service."""
        requests = self.rate * (ended - began).total_seconds()
        if not pods:
            self.lost += requests
            return
        share = requests / len(pods)
        for pod in pods:
            uid, revision = pod["metadata"]["uid"], pod["metadata"]["labels"][LABEL_REVISION]
            temper = self.tempers.get(revision, Temper())
            spell = Spell(began, ended, share, share * temper.errors, temper.seconds)
            self._spells.setdefault(uid, []).append(spell)
            self.answered[revision] += share

    def since(self, uid: str, start: datetime) -> list[Spell]:
        """Return what a pod has answered since `start`; of a spell that `start` falls into, the part after it."""
        found: list[Spell] = []
        for spell in reversed(self._spells.get(uid, ())):
            if spell.ended <= start:
                break
            part = (spell.ended - max(spell.began, start)) / (spell.ended - spell.began)
            found.append(
                Spell(
                    max(spell.began, start),
                    spell.ended,
                    spell.requests * part,
                    spell.errors * part,
                    spell.seconds,
                )
            )
        return found
