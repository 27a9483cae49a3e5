"""Pods that answer badly or not at all: what can be had of the others is had, in time."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from pilothouse.metrics.asking import Patience
from pilothouse.metrics.fetch import MOST_BYTES
from pilothouse.plan.samples import Ask, Samples
from pilothouse.plan.seen import Key
from tests.unit.metrics.servers import NEW, START, Handler, Pods, Server, deaf, source

KEY = Key("vision", "digits")
GOOD, BAD = "127.0.0.2", "127.0.0.3"
HASTY = Patience(one=0.5)


async def sampled(pods: Pods, patience: Patience = HASTY) -> Samples:
    """Ask a good pod and a bad one, each of a revision of its own."""
    server = Server()
    server.answers(3)
    await pods.start(GOOD, server)
    questions = {"good": (source("g", GOOD, NEW),), "bad": (source("b", BAD, NEW),)}
    async with pods.sampler(patience=patience) as sampler:
        return await sampler.sample(KEY, Ask(since=START, pods=questions))


async def garbage(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>I am no runtime</html>")


async def failing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body=Server().page)


async def redirecting(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(f"http://{GOOD}:1/")


async def compressed(_: web.Request) -> web.StreamResponse:
    response = web.Response(body=Server().page)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    chunk = Server().page * 100
    while True:
        await response.write(chunk)


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for byte in Server().page:
        await response.write(bytes([byte]))
        await asyncio.sleep(0.01)  # as slow as this server is
    return response


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(Server().page)
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize(
    "handler",
    [garbage, failing, redirecting, compressed, endless, dripping, cut_off],
    ids=lambda h: h.__name__,
)
async def test_a_bad_answer_is_left_out(pods: Pods, handler: Handler) -> None:
    await pods.start(BAD, handler)
    samples = await sampled(pods)
    assert {name: traffic.requests for name, traffic in samples.traffic.items()} == {"good": 3}


async def test_a_redirect_leads_nowhere(pods: Pods) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://127.0.0.4:{pods.port}/metrics")

    await pods.start(BAD, elsewhere)
    await pods.start("127.0.0.4", Server())
    await sampled(pods)
    assert sorted(pods.asked) == [GOOD, BAD]


@pytest.mark.parametrize(("share", "heard"), [(0.9, {"good", "bad"}), (1.1, {"good"})])
async def test_an_answer_may_be_long_but_not_too_long(pods: Pods, share: float, heard: set[str]) -> None:
    padding = b"# no more than a comment\n"
    padding *= int(share * MOST_BYTES / len(padding))

    async def long(_: web.Request) -> web.StreamResponse:
        return web.Response(body=padding + Server().page)

    await pods.start(BAD, long)
    assert set((await sampled(pods, Patience(one=30, all=30))).traffic) == heard


async def test_nobody_at_the_address(pods: Pods) -> None:
    assert set((await sampled(pods)).traffic) == {"good"}


async def test_a_deaf_pod_is_not_waited_for_longer_than_patience_lasts(pods: Pods) -> None:
    await pods.start(GOOD, Server())
    async with deaf(BAD, pods.port):
        began = time.monotonic()
        assert set((await sampled(pods)).traffic) == {"good"}
    assert time.monotonic() - began < 5


async def test_many_deaf_pods_do_not_add_up(pods: Pods) -> None:
    server = Server()
    server.answers(3)
    await pods.start(GOOD, server)
    deaf_ones = [f"127.0.1.{n}" for n in range(1, 101)]
    async with AsyncExitStack() as stack:
        for address in deaf_ones:
            await stack.enter_async_context(deaf(address, pods.port))
        sources = [source(address, address, NEW) for address in deaf_ones]
        questions = {"good": (source("g", GOOD, NEW),), "bad": tuple(sources)}
        async with pods.sampler(patience=Patience(one=0.5, all=1.0)) as sampler:
            began = time.monotonic()
            samples = await sampler.sample(KEY, Ask(since=START, pods=questions))
            assert time.monotonic() - began < 2.4, "five rounds of half a second would be longer"
    assert samples.traffic["good"].requests == 3


async def test_what_is_no_address_is_not_looked_up(pods: Pods) -> None:
    await pods.start(GOOD, Server())
    questions = {
        "bad": tuple(source(a, a) for a in ("localhost", "", "127.0.0.2/x?", f"127.0.0.2:{pods.port}"))
    }
    async with pods.sampler() as sampler:
        assert (await sampler.sample(KEY, Ask(since=START, pods=questions))).traffic == {}
    assert pods.asked == []


async def test_an_address_may_be_ipv6(pods: Pods) -> None:
    server = Server()
    server.answers(2)
    await pods.start("::1", server)
    async with pods.sampler() as sampler:
        samples = await sampler.sample(KEY, Ask(since=START, pods={"r": (source("a", "::1", NEW),)}))
    assert samples.traffic["r"].requests == 2


async def test_a_revision_of_which_nothing_is_known_is_told_once(
    pods: Pods, caplog: pytest.LogCaptureFixture
) -> None:
    await pods.start(GOOD, Server())
    questions = Ask(
        since=START, pods={"good": (source("g", GOOD), source("h", BAD)), "bad": (source("b", BAD),)}
    )
    with caplog.at_level(logging.WARNING, "pilothouse"):
        async with pods.sampler() as sampler:
            for _ in range(3):
                await sampler.sample(KEY, questions)
            (told,) = caplog.messages
            assert told.startswith("revision bad: none of its pods could be asked")
            assert "NetworkPolicy" in told
            await pods.start(BAD, garbage)
            await sampler.sample(KEY, questions)
            assert "no pilothouse_requests_total" in caplog.messages[-1]
            await pods.start(BAD, Server())
            await sampler.sample(KEY, questions)
            await pods.stop(BAD)
            await sampler.sample(KEY, questions)
    assert len(caplog.messages) == 3, "what was well in between is told again"
