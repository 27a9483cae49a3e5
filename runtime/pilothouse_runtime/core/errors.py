"""The ways to fail: a request that cannot be answered, a process that cannot do what it is for, a model not packed."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pilothouse_runtime.contract import FailureReason


class Code(IntEnum):
    """What is wrong with a request, by the HTTP status that says so: the one table of errors, for all fronts."""

    INVALID_ARGUMENT = 400
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405
    REQUEST_TIMEOUT = 408  # the client did not send all of it in time
    TOO_LARGE = 413
    UNSUPPORTED_MEDIA_TYPE = 415
    RESOURCE_EXHAUSTED = 429
    HEADERS_TOO_LARGE = 431
    CANCELLED = 499  # the client left: nobody reads an answer, the status is for the metrics only
    INTERNAL = 500
    UNAVAILABLE = 503
    DEADLINE_EXCEEDED = 504

    @property
    def grpc(self) -> str:
        """The name of the gRPC status (gRPC, "Status codes and their use in gRPC") that says the same."""
        return _GRPC.get(self, "INVALID_ARGUMENT")


_GRPC: Final = {
    Code.NOT_FOUND: "NOT_FOUND",
    Code.METHOD_NOT_ALLOWED: "UNIMPLEMENTED",
    Code.REQUEST_TIMEOUT: "DEADLINE_EXCEEDED",
    Code.TOO_LARGE: "RESOURCE_EXHAUSTED",
    Code.UNSUPPORTED_MEDIA_TYPE: "UNIMPLEMENTED",
    Code.RESOURCE_EXHAUSTED: "RESOURCE_EXHAUSTED",
    Code.CANCELLED: "CANCELLED",
    Code.INTERNAL: "INTERNAL",
    Code.UNAVAILABLE: "UNAVAILABLE",
    Code.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
}


class RequestError(Exception):
    """A request gets no prediction; the message is for who sent it.

    Args:
        code: decides the wire code.
        message: what is wrong, where, and what would be right.
        retry_after: seconds after which the same request may do better, or None.
    """

    def __init__(self, code: Code, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


def invalid(message: str) -> RequestError:
    """Return the error of a request that is wrong in itself."""
    return RequestError(Code.INVALID_ARGUMENT, message)


class LoadError(Exception):
    """The process cannot serve its model, or validate another's, and gives up; the message ends in the termination log.

    `permanent` as in `contract.LastWords`: starting the same pod again must fail in the same way.
    """

    def __init__(self, reason: FailureReason, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.permanent = permanent


class PackError(Exception):
    """A model cannot be packed; the message names the argument, the rule it broke, and what to do."""
