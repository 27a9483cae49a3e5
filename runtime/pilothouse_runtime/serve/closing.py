"""Tells clients to leave: while the pod drains, every answer ends its connection."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse_runtime.core.states import Phase, Readiness


class CloseWhileDraining:
    """ASGI middleware that adds Connection: close to answers once draining has begun.

    Without it a client with a kept-alive connection would send its next request into the moment of closing.
    """

    def __init__(self, app: ASGIApp, readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._readiness.state.phase is Phase.DRAINING:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_closing)
