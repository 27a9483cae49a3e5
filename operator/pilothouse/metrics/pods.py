"""Asks runtime pods for their own metrics, so that no Prometheus is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from pilothouse.metrics.asking import Patience, ask_each, url_of
from pilothouse.metrics.exposition import Reading, UnreadablePageError, read
from pilothouse.metrics.fetch import NoAnswerError, fetch
from pilothouse.plan.samples import Source
from pilothouse_runtime import contract


@dataclass(frozen=True)
class Answer:
    """What came of asking one pod of a revision: a reading, or else a problem."""

    revision: str
    source: Source
    reading: Reading | None
    problem: str = ""


class Pods:
    """The runtime pods, by their addresses."""

    def __init__(self, session: aiohttp.ClientSession, port: int, patience: Patience) -> None:
        self._session = session
        self._port = port
        self._patience = patience

    async def ask(self, pods: Mapping[str, tuple[Source, ...]]) -> list[Answer]:
        """Ask all of these pods, by revision; return one answer for each, in their order. Never raises."""
        late = f"not asked: others did not answer within {self._patience.all:g} s"
        answers = {
            source.uid: Answer(revision, source, None, late)
            for revision, sources in pods.items()
            for source in sources
        }

        async def ask(source: Source) -> None:
            answers[source.uid] = await self._answer(answers[source.uid].revision, source)

        await ask_each([answer.source for answer in answers.values()], ask, self._patience)
        return list(answers.values())

    async def _answer(self, revision: str, source: Source) -> Answer:
        try:
            reading = await self._read(source)
        except (NoAnswerError, UnreadablePageError) as error:
            return Answer(revision, source, None, str(error))
        if reading.revisions and revision not in reading.revisions:
            # The pod is gone, and its address is another's by now.
            return Answer(revision, source, None, f"revision {min(reading.revisions)} answers at its address")
        return Answer(revision, source, reading)

    async def _read(self, source: Source) -> Reading:
        url = url_of(source, self._port, contract.METRICS_PATH)
        status, page = await fetch(self._session, url, self._patience.one)
        if status != 200:
            raise NoAnswerError(f"status {status} instead of metrics")
        return read(page)
