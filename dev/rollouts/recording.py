"""What was seen of one rollout, as JSON lines: kept beside the drawing, so that the drawing can be made anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.api.conditions import Phase

Json = dict[str, Any]


@dataclass(frozen=True)
class Begun:
    """The first line: what is recorded."""

    at: float
    title: str
    old: str
    """Version that served before."""
    new: str
    """Version that is rolled out."""
    replicas: int


@dataclass(frozen=True)
class Act:
    """Somebody did something."""

    at: float
    what: str


@dataclass(frozen=True)
class Model:
    """The status of the ModelDeployment changed."""

    at: float
    revision: str = ""
    """The one that is, or was, rolled out; what follows is about it."""
    phase: str = ""
    step: int | None = None
    steps: int | None = None
    weight: int | None = None
    weight_reached: int | None = None
    reason: str = ""
    message: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    """The version of each revision."""


@dataclass(frozen=True)
class Pod:
    """A pod appeared, changed or went."""

    at: float
    name: str
    revision: str
    ready: bool


@dataclass(frozen=True)
class Answers:
    """What the client has been answered since the last such line: requests by version, and those that failed."""

    at: float
    versions: dict[str, int]
    failed: int


Line = Begun | Act | Model | Pod | Answers
_KINDS: dict[str, type[Line]] = {kind.__name__: kind for kind in (Begun, Act, Model, Pod, Answers)}


@dataclass(frozen=True)
class Segment:
    """A time in which the rollout stood in one phase or step."""

    start: float
    end: float
    phase: Phase
    step: int | None
    weight: int | None


@dataclass(frozen=True)
class Recording:
    """All lines of one rollout, in the order of time."""

    lines: tuple[Line, ...]

    @property
    def begun(self) -> Begun:
        return next(line for line in self.lines if isinstance(line, Begun))

    @property
    def end(self) -> float:
        return self.lines[-1].at

    @property
    def acts(self) -> tuple[Act, ...]:
        return tuple(line for line in self.lines if isinstance(line, Act))

    @property
    def requests(self) -> int:
        return sum(sum(a.versions.values()) + a.failed for a in self._answers())

    @property
    def failed(self) -> int:
        return sum(answers.failed for answers in self._answers())

    def ready_pods(self) -> list[tuple[float, dict[str, int]]]:
        """Return how many pods of each version were ready, from each moment on at which that changed."""
        versions = self._versions()
        pods: dict[str, Pod] = {}
        counts: list[tuple[float, dict[str, int]]] = []
        for line in self.lines:
            if isinstance(line, Pod):
                pods[line.name] = line
                now = dict.fromkeys((self.begun.old, self.begun.new), 0)
                for pod in pods.values():
                    now[versions[pod.revision]] += pod.ready
                if not counts or counts[-1][1] != now:
                    counts.append((line.at, now))
        return counts

    def shares(self, window: float = 2.0) -> list[tuple[float, float]]:
        """Return which share of the answers came from the new version, over the `window` seconds around."""
        answers = list(self._answers())
        points = []
        for middle in answers:
            within = [a for a in answers if abs(a.at - middle.at) <= window / 2]
            total = sum(sum(a.versions.values()) for a in within)
            if total:
                points.append((middle.at, sum(a.versions.get(self.begun.new, 0) for a in within) / total))
        return points

    def failures(self) -> list[tuple[float, int]]:
        """Return when requests failed, and how many."""
        return [(answers.at, answers.failed) for answers in self._answers() if answers.failed]

    def weights(self) -> list[tuple[float, int]]:
        """Return which weight the new version has by the status, from each moment on at which that changed.

        On the way back it is the old version that is rolled out: the new one has the rest.
        """
        versions = self._versions()
        points: list[tuple[float, int]] = []
        for line in self.lines:
            if isinstance(line, Model):
                reached = line.weight_reached or 0
                weight = reached if versions.get(line.revision) == self.begun.new else 100 - reached
                if not points or points[-1][1] != weight:
                    points.append((line.at, weight))
        return points

    def segments(self) -> list[Segment]:
        """Return the phases and steps that the rollout went through."""
        found: list[Segment] = []
        for line in self.lines:
            if not isinstance(line, Model) or not line.phase:
                continue
            phase, step = Phase(line.phase), line.step
            if found and (found[-1].phase, found[-1].step) == (phase, step):
                continue
            if found:
                last = found.pop()
                found.append(Segment(last.start, line.at, last.phase, last.step, last.weight))
            found.append(Segment(line.at, self.end, phase, step, line.weight))
        return found

    def _answers(self) -> Iterator[Answers]:
        return (line for line in self.lines if isinstance(line, Answers))

    def _versions(self) -> dict[str, str]:
        return {
            name: v for line in self.lines if isinstance(line, Model) for name, v in line.versions.items()
        }


def write(lines: Iterable[Line], path: Path) -> None:
    """Write a recording, one line of JSON each."""
    texts = (json.dumps({"saw": type(line).__name__, **_said(line)}, sort_keys=False) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))


def read(path: Path) -> Recording:
    """Read a recording.

    Raises:
        ValueError: a line is none of a recording's; the message names it.
    """
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        try:
            data: Json = json.loads(text)
            lines.append(_KINDS[data.pop("saw")](**data))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: no line of a recording: {error}") from error
    return Recording(tuple(lines))


def _said(line: Line) -> Json:
    return {key: value for key, value in asdict(line).items() if value is not None and value != ""}
