"""Tables of what was measured, in Markdown that is also aligned for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dev.bench.choosing import best_of_each, of, ratio
from dev.bench.figures import Figure, Report
from dev.bench.goals import best_loop, start
from dev.bench.subjects import OURS


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Return a Markdown table; columns after the first `words` hold numbers and are set to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        set_ = [
            cell.ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(set_)} |"

    rule = ["-" * width if column < words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


def loads(report: Report) -> Iterator[tuple[str, str]]:
    """Yield a heading and a table for each number of connections, the fastest subject first."""
    for clients in sorted({figure.connections for figure in report.figures}):
        ours = of(report.figures, OURS, clients)
        rows = [_row(figure, ours) for figure in best_of_each(report.figures, clients)]
        if rows:
            head = ("server", "best setting", "bodies", "requests/s", "p50 ms", "p99 ms", "ours is", "rounds")
            yield connections(clients), table(head, rows, words=3)


def _row(figure: Figure, ours: Figure | None) -> tuple[str, ...]:
    times = ratio(ours, figure)
    told = "" if figure.subject == OURS or times is None else f"{times:.2f}x"
    name = f"**{figure.subject}**" if figure.subject == OURS else figure.subject
    return (
        name,
        figure.label,
        figure.form,
        number(figure.rate),
        *_latencies(figure),
        told,
        str(len(figure.loads)),
    )


def _latencies(figure: Figure) -> tuple[str, str]:
    return f"{figure.p50:.2f}", f"{figure.p99:.2f}"


def number(value: float) -> str:
    """Return a rate with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def connections(clients: int) -> str:
    """Return a number of connections in words."""
    return f"{clients} connection{'s' if clients != 1 else ''}"


def limits(report: Report) -> str:
    """Return the best loop around the model, by form and over all."""
    rows = [
        (
            f"{form}, {best.threads} thread{'s' if best.threads > 1 else ''}",
            str(best.batch),
            number(best.rate),
        )
        for form in ("eager", "torchscript", "exported")
        if (best := best_loop(report.loops, form))
    ]
    return table(("a plain loop around the model", "rows in a batch", "rows/s"), rows)


def footprint(reports: Sequence[Report]) -> str:
    """Return what starting and memory take, beside what importing torch takes."""
    rows = []
    importing = next((one.importing for one in reports if one.importing), None)
    if importing:
        rows.append(
            (
                '`python -c "import torch"`',
                f"{importing.seconds:.2f}",
                f"{importing.memory / 1e6:.0f}",
                "",
                "",
            )
        )
    for report in reports:
        for subject in dict.fromkeys(figure.subject for figure in report.figures if figure.counts):
            figures = [one for one in report.figures if one.subject == subject and one.counts]
            figures = [one for one in figures if one.chosen] or figures
            low = min(figures, key=lambda one: max(one.memory))
            own = [one for one in figures if one.label == low.label]
            weights = f"{report.weights / 1e6:.0f}"
            first, after = (
                f"{max(map(max, memory)) / 1e6:.0f}"
                for memory in ([one.at_first for one in own], [one.memory for one in own])
            )
            rows.append((f"{report.model}: {low.name}", f"{start(own):.2f}", first, after, weights))
    return table(
        ("", "s to the first right answer", "MB after it", "MB after the load", "of which weights"), rows
    )


def features(report: Report) -> str:
    """Return what each feature of ours costs: requests a second with it off, against all on."""
    clients = sorted({figure.connections for figure in report.features})
    labels = list(dict.fromkeys(figure.label for figure in report.features))
    rows = []
    for label in labels:
        cells = [label]
        for load in clients:
            figure, whole = (_find(report.features, one, load) for one in (label, labels[0]))
            times = ratio(figure, whole)
            cells.append(f"{number(figure.rate)} ({times - 1:+.0%})" if figure and times else "failed")
        rows.append(cells)
    return table(("requests/s", *map(connections, clients)), rows)


def variants(report: Report) -> str:
    """Return other settings of ours, measured once, beside the one that counts."""
    own = [figure for figure in report.figures if figure.subject == OURS]
    clients = sorted({figure.connections for figure in own})
    rows = []
    for label in dict.fromkeys(figure.label for figure in own):
        found = [_find(own, label, load) for load in clients]
        rows.append((label, *(number(one.rate) if one else "failed" for one in found)))
    return table(("ours, requests/s", *map(connections, clients)), rows)


def problems(report: Report) -> list[str]:
    """Return what went wrong, a line for each setting and problem."""
    told = (
        f"{one.name}, {connections(one.connections)}: {one.cause}"
        for one in (*report.figures, *report.features)
        if one.problem
    )
    return list(dict.fromkeys(told))


def _find(figures: Sequence[Figure], label: str, clients: int) -> Figure | None:
    found = [one for one in figures if one.label == label and one.connections == clients and one.counts]
    return max(found, key=lambda one: one.chosen, default=None)
