"""Measures the requests of revisions, for the analysis of rollouts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from pilothouse.metrics.asking import Patience
from pilothouse.metrics.fetch import NoAnswerError, client
from pilothouse.metrics.pods import Answer, Pods
from pilothouse.metrics.prometheus import Prometheus
from pilothouse.metrics.windows import Window
from pilothouse.plan.samples import Ask, Samples
from pilothouse.plan.seen import Key
from pilothouse_runtime import contract

log = logging.getLogger(__name__)

_PATIENCE: Final = Patience()


class HttpSampler:
    """Fulfils `pilothouse.control.ports.Sampler`: asks the pods, and Prometheus where there is one.

    What counters were at the beginning of a window is kept in memory only; a new operator measures a shorter window.
    """

    def __init__(self, pods: Pods, prometheus: Prometheus | None, clock: Callable[[], datetime]) -> None:
        self._pods = pods
        self._prometheus = prometheus
        self._clock = clock
        self._windows: dict[Key, Window] = {}
        self._problems: dict[Key, dict[str, str]] = {}

    async def sample(self, key: Key, ask: Ask) -> Samples:
        """Return what came of requests since `ask.since`. Never raises: what cannot be had is left out, and logged."""
        window = self._windows.get(key)
        if window is None or window.since != ask.since:
            window = self._windows[key] = Window(ask.since)
        now = self._clock()
        pods, queries = await asyncio.gather(
            self._pods.ask(ask.pods),
            asyncio.gather(*(self._query(text) for text in ask.queries.values())),
        )
        for pod in pods:
            if pod.reading is not None:
                window.add(pod.revision, pod.source, pod.reading, now)
        heard = {pod.revision for pod in pods if pod.reading is not None}
        answers = dict(zip(ask.queries, queries, strict=True))
        self._tell(
            key, _silent(pods, heard) | {f"query {n}": a for n, a in answers.items() if isinstance(a, str)}
        )
        return Samples(
            since=ask.since,
            seconds=window.seconds(now),
            traffic={revision: window.traffic(revision) for revision in ask.pods if revision in heard},
            answers={name: answer for name, answer in answers.items() if isinstance(answer, float)},
        )

    def forget(self, key: Key) -> None:
        """Drop what was kept about a ModelDeployment."""
        self._windows.pop(key, None)
        self._problems.pop(key, None)

    async def _query(self, text: str) -> float | str:
        """Return the number that a query comes to, or why it comes to none."""
        if self._prometheus is None:
            return "the operator knows no Prometheus; set the chart's prometheus.url"
        try:
            return await self._prometheus.value(text)
        except NoAnswerError as error:
            return str(error)

    def _tell(self, key: Key, problems: Mapping[str, str]) -> None:
        """Log what is wrong, once for as long as it stays the same."""
        told = self._problems.get(key, {})
        for about, problem in problems.items():
            if told.get(about) != problem:
                log.warning("%s: %s", about, problem)
        self._problems[key] = dict(problems)


def _silent(pods: list[Answer], heard: set[str]) -> dict[str, str]:
    """Return why nothing is known of the revisions of which no pod answered. Single pods come and go untold."""
    problems: dict[str, str] = {}
    for pod in pods:
        if pod.revision not in heard:
            advice = "is a NetworkPolicy between the operator and the pods?"
            problem = f"none of its pods could be asked for metrics: {pod.problem}; {advice}"
            problems.setdefault(f"revision {pod.revision}", problem)
    return problems


@asynccontextmanager
async def http_sampler(
    prometheus_url: str,
    clock: Callable[[], datetime],
    *,
    port: int = contract.HTTP_PORT,
    patience: Patience = _PATIENCE,
) -> AsyncIterator[HttpSampler]:
    """Open a sampler meanwhile.

    Args:
        prometheus_url: base URL of the Prometheus to ask; empty where there is none.
        clock: tells the time, with its zone.
        port: at which the pods serve.
        patience: how long pods are waited for.
    """
    async with client() as session:
        prometheus = Prometheus(session, prometheus_url) if prometheus_url else None
        yield HttpSampler(Pods(session, port, patience), prometheus, clock)
