"""One HTTP request and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, Protocol

import orjson

from pilothouse_runtime.core.errors import Code, RequestError

Body = bytes | bytearray | memoryview

JSON: Final = b"application/json"

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    Code.CANCELLED: b"Client Closed Request"
}
_START: Final = {
    status: b"HTTP/1.1 %d %b\r\ndate: " % (status, reason) for status, reason in _REASONS.items()
}


class Link(Protocol):
    """What an exchange needs of its connection."""

    @property
    def date(self) -> bytes:
        """The time, as HTTP writes it."""

    def write(self, exchange: Exchange, pieces: list[Body]) -> None:
        """Send the whole answer to the exchange that is current."""

    def charge(self, exchange: Exchange, size: int) -> None:
        """Count memory that belongs to an exchange until it is answered. Raises RequestError where it is too much."""

    def closing(self, exchange: Exchange) -> bool:
        """Say whether the connection ends with this answer."""


class Exchange:
    """A request, and the way to answer it: once, at any time, in the thread of the event loop.

    Attributes:
        method, path: as text, the path decoded and without its query.
        headers: by lower-case name; of several of one name the last.
        body: all of it.
        peer: the client's address, as text.
        keep_alive: whether the client would send more over this connection.
        on_gone: is called when the client leaves before it was answered.
        on_refused: answers, where the connection finds that the request cannot be taken; None: with the error.
    """

    __slots__ = (
        "_link", "answered", "body", "charged", "headers", "keep_alive", "method", "on_gone", "on_refused", "path",
        "peer",
    )  # fmt: skip

    def __init__(self, link: Link, method: str, path: str, headers: dict[bytes, bytes], peer: str) -> None:
        self._link = link
        self.method = method
        self.path = path
        self.headers = headers
        self.peer = peer
        self.body: Body = b""
        self.charged = 0  # bytes of the body that the server's budget holds for it
        self.keep_alive = True
        self.answered = False
        self.on_gone: Callable[[], None] | None = None
        self.on_refused: Callable[[RequestError], None] | None = None

    def header(self, name: bytes) -> str | None:
        """Return the value of a header by its lower-case name, as text."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def answer(
        self, status: int, body: Sequence[Body], content_type: bytes = JSON, extra: bytes = b""
    ) -> int:
        """Send the answer and return the bytes of its body.

        Args:
            body: its pieces; they belong to the connection from now on and must not change.
            extra: further header lines, each ended by CR and LF.
        """
        if self.answered:
            raise RuntimeError(f"{self.method} {self.path} was answered before")
        self.answered = True
        self.on_gone = self.on_refused = (
            None  # they lead back here: without them nothing is left for the collector
        )
        link = self._link
        length = len(body[0]) if len(body) == 1 else sum([memoryview(piece).nbytes for piece in body])
        if link.closing(self):
            extra += b"connection: close\r\n"
        head = b"%b%b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (
            _START[status],
            link.date,
            content_type,
            length,
            extra,
        )
        if self.method == "HEAD":
            link.write(self, [head])
        elif length < 16384:
            link.write(self, [b"".join((head, *body))])
        else:
            link.write(self, [head, *body])
        return length

    def answer_json(self, content: object, status: int = 200, extra: bytes = b"") -> int:
        """Send a JSON document."""
        return self.answer(status, [orjson.dumps(content)], JSON, extra)

    def refuse(self, error: RequestError) -> int:
        """Send an error as the protocol has it: {"error": "..."}."""
        extra = b"" if error.retry_after is None else b"retry-after: %d\r\n" % error.retry_after
        return self.answer_json({"error": error.message}, error.code, extra)

    def charge(self, size: int) -> None:
        """Count so many bytes more against what all bodies may take, until this is answered.

        Raises:
            RequestError: they are too many.
        """
        self._link.charge(self, size)

    def refused(self, error: RequestError) -> None:
        """Answer a request that the connection cannot take."""
        if self.on_refused is not None:
            self.on_refused(error)
        else:
            self.refuse(error)
