"""What we want to reach, held against what was measured. It is printed and never asserted: machines differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from dev.bench.choosing import best_of_each, best_peer, of, ratio
from dev.bench.figures import Figure, Loop, Report
from dev.bench.settings import PEERS
from dev.bench.subjects import BOUND, OURS

# Times the best peer's requests a second, by connections, for the small model.
_AHEAD: Final = {1: 1.25, 16: 2.5, 64: 1.25}
_AHEAD_OF_OIP: Final = 3.0  # times those that speak our protocol
_OF_BOUND: Final = 0.8
_OF_LOOP: Final = 0.95
_START: Final = 0.5  # seconds more than importing torch
_MEMORY: Final = 80_000_000  # bytes more than importing torch and the model's weights


@dataclass(frozen=True)
class Goal:
    """One goal, and whether it was reached."""

    reached: bool
    told: str

    def __str__(self) -> str:
        return f"{'PASS ' if self.reached else 'short'} {self.told}"


def goals(report: Report) -> list[Goal]:
    """Return the goals of a model that the figures allow to judge."""
    loads = sorted({figure.connections for figure in report.figures if figure.subject == OURS})
    found: list[Goal] = []
    for clients in loads:
        ours, peer = of(report.figures, OURS, clients), best_peer(report.figures, clients)
        if ours:
            where = f"{report.model}, {_connections(clients)}:"
            found += (
                _small(report, ours, peer, where) if report.model == "small" else _large(ours, peer, where)
            )
    best = best_loop(report.loops)
    rates = [one.rate for clients in loads if (one := of(report.figures, OURS, clients))]
    if report.model != "small" and best and rates:
        share = max(rates) / best.rate
        told = f"{report.model}: {share:.0%} of the rows/s of the best loop, wanted {_OF_LOOP:.0%}"
        found.append(Goal(share >= _OF_LOOP, told))
    return [*found, *_footprint(report)]


def best_loop(loops: tuple[Loop, ...], form: str | None = None) -> Loop | None:
    """Return the fastest loop, of one form or of all, or None."""
    return max((one for one in loops if form in (None, one.form)), key=lambda one: one.rate, default=None)


def _small(report: Report, ours: Figure, peer: Figure | None, where: str) -> Iterator[Goal]:
    times, wanted = ratio(ours, peer), _AHEAD.get(ours.connections)
    if peer and times and wanted:
        yield Goal(times >= wanted, f"{where} {times:.2f}x {peer.name}, wanted {wanted}x")
        yield _latency(ours, peer, where)
    oip = {peer.title for peer in PEERS if peer.oip}
    for other in best_of_each(report.figures, ours.connections):
        if other.subject in oip and (times := ratio(ours, other)):
            yield Goal(
                times >= _AHEAD_OF_OIP, f"{where} {times:.2f}x {other.name}, wanted {_AHEAD_OF_OIP:g}x"
            )
    bound = ratio(ours, of(report.figures, BOUND, ours.connections))
    if bound:
        yield Goal(bound >= _OF_BOUND, f"{where} {bound:.0%} of the bound, wanted {_OF_BOUND:.0%}")


def _large(ours: Figure, peer: Figure | None, where: str) -> Iterator[Goal]:
    times = ratio(ours, peer)
    if peer and times:
        yield Goal(times > 1, f"{where} {times:.2f}x {peer.name}, wanted more than 1x")


def _latency(ours: Figure, peer: Figure, where: str) -> Goal:
    told = f"{where} p99 {ours.p99:.2f} ms against {peer.p99:.2f} ms, wanted less"
    return Goal(ours.p99 < peer.p99, told)


def _footprint(report: Report) -> Iterator[Goal]:
    ours = [one for one in report.figures if one.subject == OURS and one.chosen and one.counts]
    if ours and report.importing:
        # What activations take under load, any server needs: it is no part of the goal, but of the table.
        seconds, memory = start(ours), max(max(one.at_first) for one in ours)
        late = seconds - report.importing.seconds
        told = f"{report.model}: first right answer {seconds:.2f} s after the start, {late:.2f} s more than importing"
        yield Goal(late <= _START, f"{told} torch, wanted {_START:g}")
        more = memory - report.importing.memory - report.weights
        told = f"{report.model}: {memory / 1e6:.0f} MB, {more / 1e6:.0f} MB more than torch and the weights"
        yield Goal(more <= _MEMORY, f"{told}, wanted {_MEMORY / 1e6:.0f}")


def start(figures: list[Figure]) -> float:
    """Return the median of the seconds from the start to the first right answer."""
    return median(seconds for one in figures for seconds in one.seconds)


def _connections(clients: int) -> str:
    return f"{clients} connection{'s' if clients != 1 else ''}"
