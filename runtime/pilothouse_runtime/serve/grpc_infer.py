"""ModelInfer: one inference request over gRPC, from its head to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import unquote

import grpc.aio

from pilothouse_runtime.codecs.grpc_messages import decode_infer, encode_infer, named_model, parse_infer
from pilothouse_runtime.codecs.grpc_schema import SERVICE
from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.grpc_errors import Context, abort, unforeseen

_LEFT: Final = "the client left"
# For so many seconds after a call without a message, gRPC may still say that the client left.
_LAST_WORD: Final = 0.25


class Bodies(Protocol):
    """What requests of all fronts hold in memory together."""

    def charge(self, size: int) -> None:
        """Count bytes that will be in memory. Raises RequestError where they are too many."""

    def release(self, size: int) -> None:
        """Take them off again."""


class ModelInfer:
    """Handles ModelInfer; each call is opened and closed in the data plane, whatever becomes of it.

    Args:
        bodies: what all requests may hold in memory; a message counts from when it has come until it is answered.
        max_body: bytes of a message, as the server's options say it.
        receive_timeout: seconds for which a call may be open before its message has come.
        clock: the plane's: monotonic seconds.
    """

    path: Final = f"/{SERVICE}/ModelInfer"

    def __init__(
        self,
        plane: DataPlane,
        bodies: Bodies,
        max_body: int,
        receive_timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._plane = plane
        self._bodies = bodies
        self._max_body = max_body
        self._receive_timeout = receive_timeout
        self._clock = clock

    async def handle(self, requests: Any, context: Context) -> bytes:
        """Answer one call, whose message is still to come."""
        call = self._plane.open("grpc", self.path, _address(context.peer()))
        failure: RequestError | None = RequestError(Code.CANCELLED, _LEFT)
        try:
            answer = await self._answer(call, context)
            call.sent = len(answer)
            failure = None
        except asyncio.CancelledError:
            failure = self._cancelled(call, context)
            raise
        except RequestError as error:
            failure = error
        except Exception:
            failure = unforeseen(self.path)
        finally:
            if failure is None:
                self._plane.close(call, 200)
            else:
                self._plane.close(call, failure.code, failure.message)
        if failure is not None:
            await abort(context, failure)
        return answer

    async def _answer(self, call: Call, context: Context) -> bytes:
        plane = self._plane
        for name, value in context.invocation_metadata() or ():
            if name == "traceparent":
                call.traceparent = str(value)
            elif name == "x-request-id":
                call.request_id = str(value)
        remaining: float | None = context.time_remaining()  # None where the client set no deadline
        if remaining is not None:
            call.deadline = self._clock() + remaining
        body = await self._message(context)
        call.received = len(body)
        self._bodies.charge(len(body))
        try:
            message = parse_infer(body)
            model, version = named_model(message.model_name, message.model_version)
            plane.check_servable(model, version)
            return encode_infer(await plane.predict(call, decode_infer(message)))
        finally:
            self._bodies.release(len(body))

    async def _message(self, context: Context) -> bytes:
        try:
            async with asyncio.timeout(self._receive_timeout):
                body = await context.read()
                if body is grpc.aio.EOF:
                    await asyncio.sleep(
                        _LAST_WORD
                    )  # most likely it ends here: the client left, or sent too much
                    raise invalid("the call has no message; send one ModelInferRequest")
        except TimeoutError:
            raise RequestError(
                Code.REQUEST_TIMEOUT, "the request took too long to come; send it again"
            ) from None
        return bytes(body)

    def _cancelled(self, call: Call, context: Context) -> RequestError:
        """Return why a call was cancelled: by its client, by its deadline, or by gRPC for the size of its message."""
        if call.deadline is not None and self._clock() >= call.deadline - _early(
            call.deadline - call.started
        ):
            return RequestError(Code.DEADLINE_EXCEEDED, "the client's deadline passed")
        if call.received == 0 and not context.peer():  # gRPC has answered, and forgot whom
            return RequestError(Code.TOO_LARGE, f"the message is larger than {self._max_body:,} bytes")
        return RequestError(Code.CANCELLED, _LEFT)


def _early(patience: float) -> float:
    """Return for how many seconds before a deadline a client's leaving is the deadline's doing.

    The client begins to count first, and rounds up what it tells of its patience ("gRPC over HTTP2", Timeout).
    """
    return 0.01 + patience / 50


def _address(peer: str) -> str:
    """Return gRPC's name of a peer, such as ipv6:%5B::1%5D:40312, as address and port."""
    return unquote(peer.partition(":")[2]).replace("[", "").replace("]", "")
