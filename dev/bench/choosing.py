"""Which settings count: pure functions over what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from dev.bench.figures import Figure
from dev.bench.subjects import BOUND, OURS

# A peer that does less than this share of the best peer's rate cannot become the best one by measuring it longer.
WITHIN_REACH: Final = 0.4
# Of one peer, settings this close to each other are both measured in rounds.
_ALIKE: Final = 0.9


def best_of_each(figures: Iterable[Figure], connections: int) -> list[Figure]:
    """Return each subject's best setting under one load, the fastest subject first.

    Figures of rounds count before those of the choice, which were measured once and shortly.
    """
    best: dict[str, Figure] = {}
    for figure in figures:
        if figure.connections == connections and figure.counts:
            held = best.get(figure.subject)
            if held is None or (figure.chosen, figure.rate) > (held.chosen, held.rate):
                best[figure.subject] = figure
    return sorted(best.values(), key=lambda figure: -figure.rate)


def contenders(figures: Sequence[Figure], connections: int, most: int) -> list[Figure]:
    """Return the settings of peers that are worth measuring in rounds under one load, at most `most` of them."""
    leaders = [figure for figure in best_of_each(figures, connections) if figure.subject not in (OURS, BOUND)]
    if not leaders:
        return []
    near = [figure for figure in leaders if figure.rate >= WITHIN_REACH * leaders[0].rate]
    rivals = [
        figure
        for figure in figures
        if figure.connections == connections
        and figure.counts
        and any(
            figure.subject == leader.subject
            and figure.label != leader.label
            and figure.rate >= _ALIKE * leader.rate
            for leader in near
        )
    ]
    return sorted([*near, *rivals], key=lambda figure: -figure.rate)[:most]


def best_peer(figures: Iterable[Figure], connections: int) -> Figure | None:
    """Return the fastest peer under one load, or None where none was measured."""
    peers = (figure for figure in best_of_each(figures, connections) if figure.subject not in (OURS, BOUND))
    return next(peers, None)


def of(figures: Iterable[Figure], subject: str, connections: int) -> Figure | None:
    """Return a subject's best setting under one load, or None."""
    return next((one for one in best_of_each(figures, connections) if one.subject == subject), None)


def together(rounds: Iterable[Figure]) -> list[Figure]:
    """Join the rounds of the same setting under the same load; one bad round spoils the setting."""
    joined: dict[tuple[str, str, int], Figure] = {}
    for figure in rounds:
        key = (figure.subject, figure.label, figure.connections)
        held = joined.get(key)
        joined[key] = (
            figure
            if held is None
            else replace(
                held,
                loads=held.loads + figure.loads,
                seconds=held.seconds + figure.seconds,
                memory=held.memory + figure.memory,
                at_first=held.at_first + figure.at_first,
                problem=held.problem or figure.problem,
            )
        )
    return list(joined.values())


def ratio(ours: Figure | None, other: Figure | None) -> float | None:
    """Return how many times the other's answers a second ours are, or None where one is missing."""
    return ours.rate / other.rate if ours and other and other.rate else None
