"""GET with bounds: on time, on size, and on where it leads. What is asked here may be anybody's server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

MOST_BYTES: Final = 4 * 1024 * 1024
# Not compressed: a few bytes of an answer could become as many as they like.
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "pilothouse"}


class NoAnswerError(Exception):
    """There was no answer that is of use; the message says why, in the same words for the same cause."""


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session for `fetch` meanwhile: no cookies, no proxies, and no connection is used twice.

    A connection that is kept would lead to the pod that had an address before.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers=_HEADERS,
    ) as session:
        yield session


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    seconds: float,
    *,
    query: Mapping[str, str] | None = None,
    most_bytes: int = MOST_BYTES,
) -> tuple[int, bytes]:
    """GET `url` with `query` and return the answer's status and body. A redirect is not followed.

    Args:
        session: see `client`.
        url: what to get.
        seconds: how long all of it may take.
        query: names and values, not encoded.
        most_bytes: how long the body may be.

    Raises:
        NoAnswerError: there is none in time, or it is too long.
    """
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.get(url, params=query, timeout=timeout, allow_redirects=False) as response:
            return response.status, await _bounded(response.content, most_bytes)
    except TimeoutError as error:
        raise NoAnswerError(f"no answer within {seconds:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise NoAnswerError(str(error) or type(error).__name__) from error


async def _bounded(content: aiohttp.StreamReader, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise NoAnswerError(f"the answer is longer than {most_bytes} bytes")
    return bytes(body)
