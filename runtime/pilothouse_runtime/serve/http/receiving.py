"""The body of one request while it comes in: where its bytes go, and how many there may be."""

from __future__ import annotations

from typing import Final

import numpy as np

from pilothouse_runtime.serve.http.exchange import Body

_ALIGNMENT: Final = 64  # bytes; of the tensors, so that torch may use them where they are


class Receiver:
    """Collects a body.

    Bodies of a known length go into memory made for them: large ones straight from the socket, without passing through
    the HTTP parser. Others grow.

    Args:
        length: bytes of the whole body, or None where nobody knows.
        tensors_at: where raw tensors begin in it, or None where there are none: that place is aligned for them.
    """

    __slots__ = ("_chunks", "_view", "length", "received")

    def __init__(self, length: int | None, tensors_at: int | None) -> None:
        self.length = length
        self.received = 0
        self._chunks: bytearray | None = None
        self._view: memoryview | None = None
        if length is None:
            self._chunks = bytearray()
        else:
            self._view = _aligned(length, tensors_at or 0)

    def add(self, data: bytes) -> None:
        """Take in what the parser found."""
        if self._view is None:
            assert self._chunks is not None  # noqa: S101 - one of the two is there
            self._chunks += data
        else:
            self._view[self.received : self.received + len(data)] = data
        self.received += len(data)

    def rest(self) -> memoryview:
        """Return the memory that is still to be filled; whoever fills it calls `filled`."""
        assert self._view is not None  # noqa: S101 - only bodies of a known length are received so
        return self._view[self.received :]

    def filled(self, count: int) -> bool:
        """Take in that so many bytes were written to `rest`; say whether that was all."""
        self.received += count
        return self.received == self.length

    def body(self) -> Body:
        """Return all that came."""
        if self._view is not None:
            return self._view
        assert self._chunks is not None  # noqa: S101 - one of the two is there
        return self._chunks


def _aligned(length: int, tensors_at: int) -> memoryview:
    memory = np.empty(length + _ALIGNMENT, np.uint8)
    start = -(memory.ctypes.data + tensors_at) % _ALIGNMENT
    return memory.data[start : start + length]
