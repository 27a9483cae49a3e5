"""How far real servers say they are, and servers that say something else or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from pilothouse.metrics.asking import Patience
from pilothouse.metrics.reports import http_listener
from pilothouse_runtime.contract import READY_PATH, PodReport
from pilothouse_runtime.core.states import Phase, Readiness, ready_body
from tests.unit.metrics.servers import Handler, Pods, deaf, source

GOOD, BAD = "127.0.0.2", "127.0.0.3"
HASTY = Patience(one=0.5, all=1.0)


def pulling() -> Readiness:
    readiness = Readiness()
    readiness.enter(Phase.PULLING, "3 of 9 bytes")
    return readiness


def saying(readiness: Readiness, status: int = 503) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.path == READY_PATH
        return web.Response(status=status, text=json.dumps(ready_body(readiness)))

    return handle


async def heard(pods: Pods, *addresses: str, patience: Patience = HASTY) -> Mapping[str, PodReport]:
    """Ask the pods at these addresses; their uids are their addresses."""
    async with http_listener(port=pods.port, patience=patience) as listener:
        return await listener.listen([source(address, address) for address in addresses])


async def test_nobody_is_asked_where_nobody_waits(pods: Pods) -> None:
    assert await heard(pods) == {}


@pytest.mark.parametrize("status", [200, 503])
async def test_what_the_runtime_says_is_heard(pods: Pods, status: int) -> None:
    readiness = pulling()
    await pods.start(GOOD, saying(readiness, status))
    reports = await heard(pods, GOOD)
    assert reports[GOOD].phase is Phase.PULLING
    assert reports[GOOD].message == "3 of 9 bytes"
    assert [entered.phase for entered in reports[GOOD].history] == [Phase.STARTING, Phase.PULLING]


async def garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


async def no_text(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\xff\xfe{")


async def an_older_runtime(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text='{"ready": false, "state": "Fetching", "message": "asking"}')


async def no_such_path(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text=json.dumps(ready_body(pulling())))


async def redirecting(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"http://{GOOD}:1{READY_PATH}")


async def too_long(_: web.Request) -> web.StreamResponse:
    body = ready_body(pulling()) | {"message": "x" * 70_000}
    return web.Response(status=503, text=json.dumps(body))


async def nested(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="[" * 60_000)


@pytest.mark.parametrize(
    "handler",
    [garbage, no_text, an_older_runtime, no_such_path, redirecting, too_long, nested],
    ids=lambda handler: handler.__name__,
)
async def test_other_answers_are_left_out(pods: Pods, handler: Handler) -> None:
    await pods.start(GOOD, saying(pulling()))
    await pods.start(BAD, handler)
    assert set(await heard(pods, BAD, GOOD)) == {GOOD}


async def test_a_redirect_leads_nowhere(pods: Pods) -> None:
    await pods.start(GOOD, saying(pulling()))

    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://{GOOD}:{pods.port}{READY_PATH}")

    await pods.start(BAD, elsewhere)
    assert await heard(pods, BAD) == {}
    assert pods.asked == [BAD]


@pytest.mark.parametrize("address", ["localhost", "", "127.0.0.2/x", "127.0.0.2:80"])
async def test_what_is_no_address_is_not_asked(pods: Pods, address: str) -> None:
    await pods.start(GOOD, saying(pulling()))
    assert set(await heard(pods, address, GOOD)) == {GOOD}
    assert pods.asked == [GOOD]


async def test_silence_is_waited_for_once_however_many_keep_it(pods: Pods) -> None:
    await pods.start(GOOD, saying(pulling()))
    silent = [f"127.0.1.{n}" for n in range(1, 101)]
    async with AsyncExitStack() as stack:
        for address in silent:
            await stack.enter_async_context(deaf(address, pods.port))
        began = time.monotonic()
        assert set(await heard(pods, GOOD, *silent)) == {GOOD}
        assert time.monotonic() - began < 2.4
