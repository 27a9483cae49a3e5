"""How pods are asked: at their addresses, many at once, and never for longer than patience lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from pilothouse.metrics.fetch import NoAnswerError
from pilothouse.plan.samples import Source

_AT_ONCE: Final = 20


@dataclass(frozen=True)
class Patience:
    """For how many seconds answers are waited for. The pass of an object waits for all of them."""

    one: float = 3.0
    """A pod that needs longer for a page of numbers has other worries."""
    all: float = 10.0
    """Where many are silent, the others have been heard by then."""


async def ask_each(
    pods: Iterable[Source], ask: Callable[[Source], Awaitable[None]], patience: Patience
) -> None:
    """Let `ask` ask these pods until all have been asked or patience is over; then the others go unasked."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(pod: Source) -> None:
        async with slots:
            await ask(pod)

    with suppress(TimeoutError):
        async with asyncio.timeout(patience.all), asyncio.TaskGroup() as group:
            for pod in pods:
                group.create_task(one(pod))


def url_of(pod: Source, port: int, path: str) -> str:
    """Return the URL of a path of a pod.

    Raises:
        NoAnswerError: its address is none.
    """
    try:
        # An address and no name: nothing is looked up, and a status cannot send us wherever it likes.
        address = ip_address(pod.address)
    except ValueError as error:
        raise NoAnswerError(f"{pod.address!r} is no IP address") from error
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{port}{path}"
