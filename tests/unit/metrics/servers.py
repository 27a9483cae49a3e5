"""Pods to be asked for metrics: real servers on loopback addresses, with pages rendered by the runtime itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from aiohttp import web

from pilothouse.metrics.asking import Patience
from pilothouse.metrics.sampler import HttpSampler, http_sampler
from pilothouse.plan.samples import Source
from pilothouse_runtime import contract
from pilothouse_runtime.core.predictor import ModelDescription
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATIENCE = Patience()
START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
OLD = START - timedelta(hours=1)
NEW = START + timedelta(seconds=5)


class Server:
    """What a runtime process counts; `restart` starts it anew, with counters at zero."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.metrics = Metrics(Readiness())

    def answers(self, count: int, code: int = 200, seconds: float = 0.004) -> None:
        """Let it answer some requests."""
        for _ in range(count):
            call = Call("rest", started=0.0)
            call.code = code
            self.metrics.ended(call, seconds)

    def loads(self, revision: str) -> None:
        """Let it have loaded the model of a revision."""
        environment = {
            contract.ENV_MODEL_NAME: "digits",
            contract.ENV_MODEL_URI: "file:///m.pt",
            contract.ENV_REVISION: revision,
        }
        model = ModelDescription("torchscript", "pytorch_torchscript", None)
        self.metrics.loaded(read_settings(environment), model, 0.1)

    @property
    def page(self) -> bytes:
        return self.metrics.render("")[0]

    async def __call__(self, _: web.Request) -> web.StreamResponse:
        return web.Response(body=self.page, content_type="text/plain")


class Pods:
    """Addresses of one port, and what answers there.

    Attributes:
        port: the same everywhere, as in a cluster.
        asked: addresses in the order in which they were asked, redirects that were followed included.
        time: what the sampler takes for the time.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.time = START + timedelta(seconds=30)
        self._runners: dict[str, web.AppRunner] = {}

    async def start(self, address: str, handler: Handler) -> None:
        """Let `handler` answer at an address, in place of what did before."""
        await self.stop(address)

        async def handle(request: web.Request) -> web.StreamResponse:
            self.asked.append(address)
            return await handler(request)

        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        # A handler that waits for ever is not waited for at the end.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, address, self.port).start()
        self._runners[address] = runner
        self.port = self.port or int(runner.addresses[0][1])

    async def stop(self, address: str) -> None:
        """Let nobody answer at an address."""
        runner = self._runners.pop(address, None)
        if runner is not None:
            await runner.cleanup()

    async def close(self) -> None:
        for address in list(self._runners):
            await self.stop(address)

    @asynccontextmanager
    async def sampler(
        self, prometheus_url: str = "", patience: Patience = PATIENCE
    ) -> AsyncIterator[HttpSampler]:
        """A sampler as after a new start of the operator."""
        async with http_sampler(
            prometheus_url, lambda: self.time, port=self.port, patience=patience
        ) as sampler:
            yield sampler


@asynccontextmanager
async def deaf(address: str, port: int) -> AsyncIterator[None]:
    """Take connections at an address and say nothing, ever."""
    over = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, address, port, family=socket.AF_INET)
    try:
        yield
    finally:
        over.set()
        server.close()
        await server.wait_closed()


def source(name: str, address: str, created: datetime = OLD) -> Source:
    """Return a pod to ask."""
    return Source(uid=name, address=address, created=created)
