"""What was measured, and how it is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from dev.bench.wrk import Load


@dataclass(frozen=True)
class Figure:
    """What one setting did under one load.

    Attributes:
        connections: how many clients asked at once, each waiting for its answer before it asked again.
        loads: one for each round.
        seconds: from the start of its processes to the first right answer, one for each start.
        memory: bytes of all its processes (proportional set size) after the load, one for each start.
        at_first: the same after the first right answer.
        problem: why it does not count, if it does not; for people.
        chosen: whether it was measured in rounds with the others, or only once, in the choice of settings.
    """

    subject: str
    label: str
    form: str
    connections: int
    loads: tuple[Load, ...] = ()
    seconds: tuple[float, ...] = ()
    memory: tuple[int, ...] = ()
    at_first: tuple[int, ...] = ()
    problem: str = ""
    chosen: bool = False

    @property
    def counts(self) -> bool:
        """Whether it was measured and every answer was right."""
        return bool(self.loads) and not self.problem

    @property
    def rate(self) -> float:
        """Answers a second, the median of the rounds."""
        return median(load.rate for load in self.loads)

    @property
    def p50(self) -> float:
        """Milliseconds, the median of the rounds."""
        return median(load.p50 for load in self.loads)

    @property
    def p99(self) -> float:
        """Milliseconds, the median of the rounds."""
        return median(load.p99 for load in self.loads)

    @property
    def cause(self) -> str:
        """The problem in one line: what it is, and the last words of a log where it has some."""
        lines = [line.strip() for line in self.problem.splitlines() if line.strip()]
        return " ... ".join(line[:200] for line in dict.fromkeys(lines[:1] + lines[-1:]))

    @property
    def name(self) -> str:
        """Subject and label in one."""
        return f"{self.subject} ({self.label})"


@dataclass(frozen=True)
class Loop:
    """Rows a second of a plain Python loop around the model, in a process of its own."""

    form: str
    threads: int
    batch: int
    rate: float


@dataclass(frozen=True)
class Importing:
    """What `python -c "import torch"` takes: seconds and bytes (proportional set size), medians."""

    seconds: float
    memory: int


@dataclass(frozen=True)
class Report:
    """All that one run measured for one model.

    Attributes:
        figures: of every setting of every subject, those that were chosen in rounds.
        features: of our server with one feature off at a time.
        weights: bytes of the model's weights.
        about: the machine, versions, durations, the date: for people.
    """

    model: str
    figures: tuple[Figure, ...]
    loops: tuple[Loop, ...]
    importing: Importing | None
    weights: int
    features: tuple[Figure, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(file: Path) -> Report:
        """Read what `save` wrote."""
        data = json.loads(file.read_text())
        return Report(
            data["model"],
            _figures(data["figures"]),
            tuple(Loop(**loop) for loop in data["loops"]),
            Importing(**data["importing"]) if data["importing"] else None,
            data["weights"],
            _figures(data["features"]),
            data["about"],
        )


def _figures(data: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    return tuple(
        Figure(
            **{
                **one,
                "loads": tuple(Load(**load) for load in one["loads"]),
                "seconds": tuple(one["seconds"]),
                "memory": tuple(one["memory"]),
                "at_first": tuple(one["at_first"]),
            }
        )
        for one in data
    )
