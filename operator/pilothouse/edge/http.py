"""Probes and metrics over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# Returns what is wrong, or None where nothing is.
Check = Callable[[], Awaitable[str | None]]


def make_app(*, alive: Check, ready: Check, registry: CollectorRegistry) -> web.Application:
    """Return the application: /healthz and /readyz answer 200 "ok" or 503 with what is wrong; /metrics."""
    app = web.Application()
    app.router.add_get("/healthz", _probe(alive))
    app.router.add_get("/readyz", _probe(ready))
    app.router.add_get("/metrics", _metrics(registry))
    return app


@asynccontextmanager
async def serving(app: web.Application, port: int, host: str | None = None) -> AsyncIterator[int]:
    """Serve `app` on all addresses (or on `host`) meanwhile; yields the port, which differs where `port` is 0.

    Raises:
        OSError: the port is in use.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        # With port 0 each address family gets a port of its own: IPv4's, whose address is the shorter tuple.
        yield int(min(runner.addresses, key=len)[1])
    finally:
        await runner.cleanup()


def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        problem = await check()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    return handle


def _metrics(registry: CollectorRegistry) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return handle
