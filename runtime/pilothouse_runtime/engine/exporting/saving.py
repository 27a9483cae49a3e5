"""Lets torch write a file on a disk that may be full."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast


class _Forbearing(io.RawIOBase):
    """Takes whatever is written; what the disk refuses is remembered, and nothing is written after it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.refused: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # which torch asks for; it writes from the beginning to the end

    def write(self, data: Any, /) -> int:
        if self.refused is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.refused = error
        return memoryview(data).nbytes

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return 0


@contextmanager
def saved(path: Path) -> Iterator[BinaryIO]:
    """Give a file for torch to save to in this block.

    torch ends the whole process, its user's notebook too, where it cannot finish an archive: the destructor of its
    writer throws. So it is never told that it could not.

    Raises:
        OSError: the file could not be written, once the block has ended.
    """
    with path.open("wb") as file:
        given = _Forbearing(file)
        yield cast("BinaryIO", given)
        if given.refused is not None:
            raise given.refused
