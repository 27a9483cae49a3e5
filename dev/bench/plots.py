"""Draws requests a second as bars, one panel for each number of connections, as one SVG; see `dev.rollouts.drawing`."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from dev.bench.choosing import best_of_each
from dev.bench.figures import Figure, Report
from dev.bench.subjects import BOUND, OURS
from dev.bench.tables import connections, number
from dev.rollouts.drawing import _STYLE as STYLE
from dev.rollouts.drawing import WIDTH
from dev.rollouts.drawing import _tag as tag
from dev.rollouts.drawing import _text as text

_LEFT: Final = 130
_RIGHT: Final = 640
_BAR: Final = 18  # of which 13 are filled
_TOP: Final = 52
_PANEL: Final = 34  # a panel's heading, and the room after it


def draw(report: Report) -> str:
    """Return the drawing of a model's figures, as the text of an SVG file."""
    panels = [
        (clients, figures)
        for clients in sorted({figure.connections for figure in report.figures})
        if (figures := best_of_each(report.figures, clients))
    ]
    height = _TOP + sum(_PANEL + _BAR * len(figures) for _, figures in panels) + 10
    title = f"{report.model}: requests a second (p99)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        tag("rect", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=6, class_="card"),
        text(20, 30, title, "title"),
    ]
    y = _TOP
    for clients, figures in panels:
        parts += _panel(clients, figures, y)
        y += _PANEL + _BAR * len(figures)
    return "\n".join([*parts, "</svg>\n"])


def _panel(clients: int, figures: list[Figure], top: float) -> Iterator[str]:
    most = max(figure.rate for figure in figures)
    yield text(20, top + 14, connections(clients), "name")
    for place, figure in enumerate(figures):
        y = top + 24 + place * _BAR
        width = max((_RIGHT - _LEFT) * figure.rate / most, 1)
        look = "new" if figure.subject == OURS else "moving" if figure.subject == BOUND else "old"
        yield text(_LEFT - 8, y + 10, figure.subject, "name" if figure.subject == OURS else "", anchor="end")
        yield tag("rect", x=_LEFT, y=y, width=width, height=13, rx=2, class_=look)
        yield text(
            _LEFT + width + 6,
            y + 10,
            f"{number(figure.rate)} ({number(figure.p99) if figure.p99 >= 100 else f'{figure.p99:.2f}'} ms)",
        )
