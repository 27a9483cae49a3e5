"""Asks a Prometheus (prometheus.io, "HTTP API", "Instant queries")."""

from __future__ import annotations

import json
from math import isnan
from typing import Any, Final

import aiohttp

from pilothouse.metrics.fetch import NoAnswerError, fetch

_SECONDS: Final = 5.0
_MESSAGE_LIMIT: Final = 300


class Prometheus:
    """One Prometheus, or whatever answers its API. The URL is the operator's configuration, never a spec's."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/api/v1/query"

    async def value(self, query: str) -> float:
        """Return the number that `query` comes to now: a scalar, or the one element of a vector.

        Infinity is a number too: PromQL's x / 0.

        Raises:
            NoAnswerError: it comes to none or to several, or Prometheus refuses it or is away.
        """
        status, body = await fetch(self._session, self._url, _SECONDS, query={"query": query})
        answer = _object(body)
        if status != 200 or answer.get("status") != "success":
            raise NoAnswerError(f"Prometheus answers with status {status}{_told(answer)}")
        data = answer.get("data")
        if not isinstance(data, dict):
            raise NoAnswerError("this is no answer of Prometheus")
        number = _number(data.get("resultType"), data.get("result"))
        if isnan(number):
            raise NoAnswerError("the query comes to NaN, which is no number")
        return number


def _number(kind: Any, result: Any) -> float:
    if kind == "vector" and isinstance(result, list):
        if len(result) != 1:
            raise NoAnswerError(
                "the query comes to several series; it must come to one"
                if result
                else "the query comes to nothing: no series matches it now"
            )
        result = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind != "scalar":
        raise NoAnswerError(
            f"the query comes to a {kind}; it must come to a scalar or a vector of one element"
        )
    try:
        _, text = result
        return float(text)
    except (TypeError, ValueError) as error:
        raise NoAnswerError("the query comes to something that is no number") from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _told(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    return f": {error[:_MESSAGE_LIMIT]}" if isinstance(error, str) and error else ""
