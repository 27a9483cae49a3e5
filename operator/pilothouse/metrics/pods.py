"""Asks runtime pods for their own metrics, so that no Prometheus is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import aiohttp

from pilothouse.metrics.exposition import Reading, UnreadablePageError, read
from pilothouse.metrics.fetch import NoAnswerError, fetch
from pilothouse.plan.samples import Source
from pilothouse_runtime import contract

_AT_ONCE: Final = 20


@dataclass(frozen=True)
class Patience:
    """For how many seconds answers are waited for. The pass of an object waits for all of them."""

    one: float = 3.0
    """A pod that needs longer for a page of numbers has other worries."""
    all: float = 10.0
    """Where many are silent, the others have been heard by then."""


PATIENCE: Final = Patience()


@dataclass(frozen=True)
class Answer:
    """What came of asking one pod of a revision: a reading, or else a problem."""

    revision: str
    source: Source
    reading: Reading | None
    problem: str = ""


class Pods:
    """The runtime pods, by their addresses."""

    def __init__(self, session: aiohttp.ClientSession, port: int, patience: Patience = PATIENCE) -> None:
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
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(revision: str, source: Source) -> None:
            async with slots:
                answers[source.uid] = await self._answer(revision, source)

        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience.all), asyncio.TaskGroup() as group:
                for answer in list(answers.values()):
                    group.create_task(one(answer.revision, answer.source))
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
        try:
            # An address and no name: nothing is looked up, and a status cannot send us wherever it likes.
            address = ip_address(source.address)
        except ValueError as error:
            raise NoAnswerError(f"{source.address!r} is no IP address") from error
        host = f"[{address}]" if address.version == 6 else str(address)
        url = f"http://{host}:{self._port}{contract.METRICS_PATH}"
        status, page = await fetch(self._session, url, self._patience.one)
        if status != 200:
            raise NoAnswerError(f"status {status} instead of metrics")
        return read(page)
