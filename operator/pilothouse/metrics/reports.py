"""Asks runtime pods that do not serve yet how far they are, and those that do what they see of drift."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp

from pilothouse.metrics.asking import Patience, ask_each, url_of
from pilothouse.metrics.drift import read_drift
from pilothouse.metrics.fetch import NoAnswerError, client, fetch
from pilothouse.plan.samples import Drifted, Source
from pilothouse_runtime import contract
from pilothouse_runtime.contract import PodReport

# These words are a courtesy: a pass waits for them only for as long as nobody notices.
SHORT: Final = Patience(one=1.0, all=2.0)
_MOST_BYTES: Final = 64 * 1024
_STATUSES: Final = (200, 503)


class HttpListener:
    """Fulfils `pilothouse.control.ports.Listener`. Pods of other images know no such path, and nothing is told then."""

    def __init__(self, session: aiohttp.ClientSession, port: int, patience: Patience) -> None:
        self._session = session
        self._port = port
        self._patience = patience

    async def listen(self, pods: Sequence[Source]) -> Mapping[str, PodReport]:
        """Return what pods say of themselves, by uid. Never raises: who does not answer, or not so, is left out."""
        reports: dict[str, PodReport] = {}

        async def ask(pod: Source) -> None:
            report = await self._report(pod)
            if report is not None:
                reports[pod.uid] = report

        await ask_each(pods, ask, self._patience)
        return reports

    async def drift(self, pods: Sequence[Source]) -> Mapping[str, Drifted]:
        """Return what pods' metrics say of drift, by uid. Never raises: who says nothing is left out."""
        drifted: dict[str, Drifted] = {}

        async def ask(pod: Source) -> None:
            with suppress(NoAnswerError):
                url = url_of(pod, self._port, contract.METRICS_PATH)
                status, page = await fetch(self._session, url, self._patience.one)
                told = read_drift(page) if status == 200 else None
                if told is not None:
                    drifted[pod.uid] = told

        await ask_each(pods, ask, self._patience)
        return drifted

    async def _report(self, pod: Source) -> PodReport | None:
        try:
            url = url_of(pod, self._port, contract.READY_PATH)
            status, body = await fetch(self._session, url, self._patience.one, most_bytes=_MOST_BYTES)
        except NoAnswerError:
            return None
        return PodReport.decode(body) if status in _STATUSES else None


@asynccontextmanager
async def http_listener(
    *, port: int = contract.HTTP_PORT, patience: Patience = SHORT
) -> AsyncIterator[HttpListener]:
    """Open a listener meanwhile; `port` is the one at which the pods serve."""
    async with client() as session:
        yield HttpListener(session, port, patience)
