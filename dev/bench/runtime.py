"""Our runtime against its peers, model by model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dev.bench import limits, machine, places, tables
from dev.bench.contest import Contest, Plan
from dev.bench.figures import Report
from dev.bench.goals import goals
from dev.bench.measuring import Durations
from dev.bench.settings import PEERS, Peer

MODELS: Final = ("small", "resnet18", "transformer")
_LOADS: Final = {"small": (1, 16, 64), "resnet18": (1, 8, 16), "transformer": (1, 8, 16)}
# Where there is little time, the large models are compared with those only that came out best before.
_QUICK_PEERS: Final = ("mosec", "fastapi", "litserve")
# How many settings of peers are measured in rounds, under each load: where the model is all the work, there is less
# between them.
_MOST: Final = {"small": 3, "resnet18": 2, "transformer": 2}


@dataclass(frozen=True)
class Choices:
    """What the command line asked for; empty is all."""

    models: Sequence[str] = ()
    peers: Sequence[str] = ()
    loads: Sequence[int] = ()
    rounds: int | None = None
    quick: bool = False
    without_features: bool = False


def run(choices: Choices, folder: Path, say: Callable[[str], None]) -> list[Report]:
    """Measure what was asked for, print it, and write a report of each model into a folder."""
    files = places.models(say)
    importing = limits.importing(1 if choices.quick else 3)
    reports = []
    for model in choices.models or MODELS:
        peers = _peers(choices, model)
        plan = _plan(choices, model)
        say(f"{model}: ours and {', '.join(peer.title for peer in peers)}, {plan.loads} connections")
        contest = Contest(model, files, plan, say)
        say(f"{model}: plain loops around the model")
        loops = limits.loops(model, files, 0.1 if choices.quick else 0.4)
        figures = contest.run(peers)
        report = Report(model, figures, loops, importing, contest.weights, about=machine.about())
        if model == "small" and not choices.quick and not choices.without_features:
            report = replace(report, features=contest.features([16, 64]))
        report.save(folder / f"runtime-{model}.json")
        show(report)
        reports.append(report)
    return reports


def show(report: Report) -> None:
    """Print a model's tables and goals."""
    for heading, text in tables.loads(report):
        print(f"\n{report.model}, {heading}\n{text}")
    print(f"\n{tables.limits(report)}\n\n{tables.variants(report)}\n\n{tables.footprint([report])}")
    if report.features:
        print(f"\nwhat each feature costs\n{tables.features(report)}")
    for problem in tables.problems(report):
        print(f"did not work: {problem}")
    print()
    for goal in goals(report):
        print(goal)
    print(flush=True)


def _plan(choices: Choices, model: str) -> Plan:
    loads, quick = tuple(choices.loads) or _LOADS[model], choices.quick
    return Plan(
        loads=(loads[0], loads[-1]) if quick and model != "small" and not choices.loads else loads,
        choice=Durations(1, 0, 1 if quick else 2),
        rounds_of=Durations(1, 0, 3) if quick else Durations(1, 1, 5),
        rounds=choices.rounds or (1 if quick else 3),
        most=_MOST[model],
        quick=quick,
    )


def _peers(choices: Choices, model: str) -> list[Peer]:
    names = choices.peers or (_QUICK_PEERS if choices.quick and model != "small" else ())
    return [peer for peer in PEERS if not names or peer.name in names]
