"""One inference request as every front sees it, from its first byte to its answer."""

from __future__ import annotations

from collections.abc import Callable

from pilothouse_runtime.core.predictor import Job


class Call:
    """What is known of one inference request, for metrics, access log and traces.

    Attributes:
        protocol: which front took it: rest, v1 or grpc.
        started: monotonic seconds when its head had come.
        decoded: monotonic seconds when all of it had come and was decoded, or 0.
        deadline: monotonic seconds after which the client does not wait any more, or None.
        path, peer: what was asked, and by whom, as text.
        received, sent: bytes of the bodies.
        traceparent: the W3C Trace Context header, or "".
        request_id: the client's own name for it, or "".
        job: once it is queued.
        code: the HTTP status that it ended with; error: its message.
    """

    __slots__ = (
        "code", "deadline", "decoded", "error", "job", "path", "peer", "protocol", "received", "request_id", "sent",
        "started", "traceparent",
    )  # fmt: skip

    def __init__(self, protocol: str, started: float, path: str = "", peer: str = "") -> None:
        self.protocol = protocol
        self.started = started
        self.decoded = 0.0
        self.deadline: float | None = None
        self.path = path
        self.peer = peer
        self.received = 0
        self.sent = 0
        self.traceparent = ""
        self.request_id = ""
        self.job: Job | None = None
        self.code = 0
        self.error = ""


Observer = Callable[[Call, float], None]
"""Is told of each call when it has ended, with the monotonic seconds of that moment; must be quick and never raise."""
