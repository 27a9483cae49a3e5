"""Measures one setting: starts it, checks its answers, loads it, checks them again, stops it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.bench import wrk
from dev.bench.bodies import write
from dev.bench.checks import Questions, WrongAnswerError
from dev.bench.figures import Figure
from dev.bench.servers import Running, ServerFailedError, Setting, running


@dataclass(frozen=True)
class Durations:
    """Whole seconds.

    Attributes:
        first: of load after the start, not measured.
        warm: of each load before it is measured; 0 for none.
        measured: of each load.
    """

    first: int
    warm: int
    measured: int


def measure(
    setting: Setting, questions: Questions, connections: Sequence[int], durations: Durations
) -> list[Figure]:
    """Return a figure for each number of connections; what went wrong is in their `problem`."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="ph-bench-") as folder:
        try:
            with running(setting, questions, Path(folder) / "s") as server:
                questions.ask_all(server.port, setting.path, setting.form)
                body = write(questions.rows[:1], setting.form)
                file = Path(folder) / "body"
                file.write_bytes(body.content)

                def load(clients: int, seconds: int) -> wrk.Load:
                    return wrk.run(server.port, setting.path, file, body.headers, clients, seconds)

                def warm_up(clients: int, seconds: int) -> None:
                    if seconds:
                        load(clients, seconds)
                        # What wrk left unanswered is worked off first, and is no part of what is measured next.
                        questions.ask_one(server.port, setting.path, setting.form)

                warm_up(max(connections), durations.first)
                for clients in connections:
                    warm_up(clients, durations.warm)
                    measured = load(clients, durations.measured)
                    figures.append(_figure(setting, questions, clients, measured, server))
        except (ServerFailedError, WrongAnswerError, wrk.WrkError, OSError) as error:
            done = {figure.connections for figure in figures}
            problem = str(error).strip() or type(error).__name__
            figures += [
                Figure(setting.subject, setting.label, setting.form, clients, problem=problem)
                for clients in connections
                if clients not in done
            ]
    return figures


def _figure(setting: Setting, questions: Questions, clients: int, load: wrk.Load, server: Running) -> Figure:
    problem = ", ".join(f"{count} {name} errors" for name, count in load.failures.items())
    if not load.requests:
        problem = problem or "no answer within the time of measuring"
    try:
        questions.ask_all(server.port, setting.path, setting.form)
    except (WrongAnswerError, OSError) as error:
        problem = f"after the load: {error}"
    return Figure(
        setting.subject,
        setting.label,
        setting.form,
        clients,
        (load,),
        (server.seconds,),
        (server.memory(),),
        (server.at_first,),
        problem,
    )
