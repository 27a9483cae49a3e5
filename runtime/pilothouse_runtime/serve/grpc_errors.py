"""Errors as gRPC tells them: a status, a message, and when to try again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Never

import grpc.aio

from pilothouse_runtime.core.errors import Code, RequestError

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

# Clients take 8 KiB of metadata, and a byte of a message may take three there ("HTTP/2 protocol mapping").
_LONGEST = 2048  # bytes


def unforeseen(path: str) -> RequestError:
    """Log the exception that is being handled, and return what the client is told of it."""
    log.exception("%s failed in the server", path)
    return RequestError(Code.INTERNAL, "the server failed on this request; its log says why")


async def abort(context: Context, error: RequestError) -> Never:
    """Answer with an error; raises what gRPC ends a call with."""
    message = error.message.encode()
    if len(message) > _LONGEST:
        message = message[:_LONGEST] + "…".encode()
    retry: tuple[tuple[str, str], ...] = ()
    if error.retry_after is not None:
        # HTTP's name, and the one that gRPC's own retries obey ("gRPC Retry Design", pushback).
        retry = (
            ("retry-after", str(error.retry_after)),
            ("grpc-retry-pushback-ms", str(error.retry_after * 1000)),
        )
    status = grpc.StatusCode[error.code.grpc]
    await context.abort(status, message.decode(errors="ignore"), retry)


async def guarded(context: Context, reply: Callable[[], bytes]) -> bytes:
    """Return a reply, or answer with the error that making it raised."""
    try:
        return reply()
    except RequestError as error:
        failure = error
    except Exception:
        failure = unforeseen("a question")
    await abort(context, failure)
