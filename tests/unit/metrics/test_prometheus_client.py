"""What a Prometheus, or something that is none, may answer to a query. A real one is asked in the integration tests."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pilothouse.metrics.fetch import MOST_BYTES
from pilothouse.metrics.sampler import HttpSampler, http_sampler
from pilothouse.plan.samples import Ask
from pilothouse.plan.seen import Key
from tests.unit.metrics.servers import START

KEY = Key("vision", "digits")


@asynccontextmanager
async def answering(response: web.Response, asked: list[str] | None = None) -> AsyncIterator[HttpSampler]:
    """A sampler whose Prometheus gives one answer to everything; `asked` gets the paths and queries."""

    async def handle(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(f"{request.path} {request.query.get('query')}")
        return web.Response(status=response.status, body=response.body, headers=response.headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    async with (
        TestServer(app) as server,
        http_sampler(str(server.make_url("/base")), lambda: START) as sampler,
    ):
        yield sampler


def said(kind: str, result: Any, **more: Any) -> web.Response:
    body = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return web.Response(text=json.dumps(body), content_type="application/json")


async def answers(response: web.Response) -> dict[str, float]:
    async with answering(response) as sampler:
        return dict((await sampler.sample(KEY, Ask(START, {}, {"q": "up"}))).answers)


def element(value: Any) -> dict[str, Any]:
    return {"metric": {"job": "x"}, "value": [1.7e9, value]}


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        ("scalar", [1.7e9, "1.5"], 1.5),
        ("vector", [element("0.25")], 0.25),
        ("vector", [element("-3e-2")], -0.03),
        ("vector", [element("+Inf")], inf),
    ],
)
async def test_one_number_is_an_answer(kind: str, result: Any, expected: float) -> None:
    assert await answers(said(kind, result)) == {"q": expected}


@pytest.mark.parametrize(
    "response",
    [
        said("vector", []),
        said("vector", [element("1"), element("2")]),
        said("vector", [element("NaN")]),
        said("scalar", [1.7e9, "NaN"]),
        said("vector", [element("much")]),
        said("vector", [element(None)]),
        said("vector", [{"metric": {}, "histogram": [1.7e9, {"count": "1"}]}]),
        said("vector", ["what"]),
        said("vector", {}),
        said("scalar", None),
        said("scalar", []),
        said("string", [1.7e9, "5"]),
        said("matrix", [{"metric": {}, "values": [[1.7e9, "1"]]}]),
        said(None, None),  # type: ignore[arg-type] # it may be wrong in any way
        said("scalar", [1.7e9, "1"], status="error"),
        web.Response(text='{"status": "success"}'),
        web.Response(text='{"status": "success", "data": []}'),
        web.Response(text="[]"),
        web.Response(text="<html>"),
        web.Response(body=b"\xff\xff"),
        web.Response(text=""),
        web.Response(status=400, text='{"status": "error", "errorType": "bad_data", "error": "parse error"}'),
        web.Response(status=503, text="busy"),
        web.Response(text='{"status": "success", "data": ' + " " * MOST_BYTES + "}"),
    ],
)
async def test_anything_else_is_left_out(response: web.Response) -> None:
    assert await answers(response) == {}


async def test_a_query_goes_below_the_configured_url_and_nowhere_else() -> None:
    asked: list[str] = []
    query = 'sum(rate(a{b="c&d=e"}[5m])) / 2 > bool 1 # \u00e9'
    async with answering(web.Response(status=302, headers={"Location": "/elsewhere"}), asked) as sampler:
        await sampler.sample(KEY, Ask(START, {}, {"q": query}))
    assert asked == [f"/base/api/v1/query {query}"]


async def test_what_is_wrong_is_told_once_and_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    refusal = web.Response(status=400, text='{"status": "error", "error": "parse error at char 3"}')
    with caplog.at_level(logging.WARNING, "pilothouse"):
        async with answering(refusal) as sampler:
            for _ in range(3):
                await sampler.sample(KEY, Ask(START, {}, {"good": "up"}))
            assert caplog.messages == [
                "query good: Prometheus answers with status 400: parse error at char 3"
            ]
            await sampler.sample(Key("vision", "letters"), Ask(START, {}, {"good": "up"}))
            sampler.forget(KEY)
            await sampler.sample(KEY, Ask(START, {}, {"good": "up"}))
    assert len(caplog.messages) == 3


async def test_without_a_prometheus_there_is_no_answer() -> None:
    async with http_sampler("", lambda: START) as sampler:
        assert (await sampler.sample(KEY, Ask(START, {}, {"q": "up"}))).answers == {}


async def test_a_prometheus_that_is_away_is_no_answer(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_sampler(f"http://127.0.0.1:{unused_tcp_port}", lambda: START) as sampler:
        assert (await sampler.sample(KEY, Ask(START, {}, {"q": "up"}))).answers == {}
    assert "query q: " in caplog.text
