"""Heads of requests that are known byte for byte.

A client sends the same head again and again, over one connection or many. What follows from a head does not change, so
that one which the parser has read before need not be read again: with a body of a known, small length behind it, a
request is taken at once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_MOST: Final = 512  # heads
_LONGEST: Final = 4096  # bytes of a head
_END: Final = b"\r\n\r\n"
# What makes a request more than a head and a small body that is handed on as it came.
_MORE: Final = (
    b"connection",
    b"expect",
    b"inference-header-content-length",
    b"transfer-encoding",
    b"upgrade",
)


class Head(NamedTuple):
    """What the parser made of a head; `length` are the bytes of the body."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    length: int


_NONE: Final = (b"", Head("", "", {}, -1))


class Heads:
    """Remembers heads, of all connections of a server.

    Args:
        longest_body: bytes of the bodies that are handed on as they came.
    """

    def __init__(self, longest_body: int) -> None:
        self._longest_body = longest_body
        self._known: dict[bytes, Head] = {}
        self._last = _NONE  # that was matched, as it was written: to compare is faster than to look up

    def match(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the body where `data` is exactly one request with a known head."""
        written, head = self._last
        if len(data) == len(written) + head.length and data.startswith(written):
            return head, data[len(written) :]
        end = data.find(_END) + len(_END)
        found = self._known.get(data[:end])
        if found is None or len(data) - end != found.length:
            return None
        self._last = data[:end], found
        return found, data[end:]

    def learn(self, data: bytes, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        """Remember the head of `data`, which the parser has found to be one whole request."""
        end = data.find(_END) + len(_END)
        length = headers.get(b"content-length", b"")
        if (
            len(self._known) < _MOST
            and end <= _LONGEST
            and length == str(len(data) - end).encode()
            and len(data) - end < self._longest_body
            and not any(name in headers for name in _MORE)
        ):
            self._known[data[:end]] = Head(method, path, headers, len(data) - end)

    def forget_if_full(self) -> None:
        """Make room, where most heads are seen once and never again."""
        if len(self._known) >= _MOST:
            self._known.clear()
            self._last = _NONE
