"""gRPC's health service, which Kubernetes' gRPC probes and gRPC's own load balancers ask.

Source: gRPC's "GRPC Health Checking Protocol".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pilothouse_runtime.codecs.grpc_schema import SERVICE, message_class, parse
from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.grpc_errors import Context, abort

_Request = message_class("grpc.health.v1.HealthCheckRequest")
_Response = message_class("grpc.health.v1.HealthCheckResponse")
_SERVICES: Final = ("", SERVICE)  # the empty name is the server
_LOOK: Final = 0.5  # seconds between two looks at what a watcher is told


class Health:
    """Says SERVING while requests are welcome."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End what watchers hold open, which would keep the server from ending."""
        self._stopping.set()

    def check(self, body: bytes) -> bytes:
        """Return a HealthCheckResponse. Raises RequestError for a service that is not here."""
        service = parse(_Request, body).service
        if service not in _SERVICES:
            raise RequestError(
                Code.NOT_FOUND, f"there is no service {service!r} here; this server has {SERVICE}"
            )
        return self._encoded("SERVING" if self._readiness.state.ready else "NOT_SERVING")

    async def watch(self, body: bytes, context: Context) -> AsyncIterator[bytes]:
        """Yield a HealthCheckResponse now, and one whenever it has become another."""
        try:
            service = parse(_Request, body).service
        except RequestError as error:
            await abort(context, error)
        if service not in _SERVICES:
            yield self._encoded("SERVICE_UNKNOWN")
            await self._stopping.wait()
            return
        told = b""
        while True:
            stopping = self._stopping.is_set()
            now = self._encoded("NOT_SERVING") if stopping else self.check(body)
            if now != told:
                yield now
                told = now
            if stopping:
                return
            try:
                async with asyncio.timeout(_LOOK):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    @staticmethod
    def _encoded(status: str) -> bytes:
        body: bytes = _Response(status=status).SerializeToString()
        return body
