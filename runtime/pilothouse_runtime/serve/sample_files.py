"""Where samples are kept: a file in a folder, such as a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class LostError(Exception):
    """So many lines could not be written; says why, for people."""

    def __init__(self, why: str, lines: int) -> None:
        super().__init__(why)
        self.lines = lines


class Target(Protocol):
    """Writes lines; used by one thread. Its text says where to."""

    def add(self, line: bytes) -> int:
        """Take a line, and return how many lines were written by that, this one or earlier ones. Raises LostError."""

    def flush(self) -> int:
        """Write what was taken; returns and raises as `add`."""

    def wait(self) -> float | None:
        """Return in how many seconds `flush` is to be called, if nothing else is; None: there is nothing to write."""


class SampleFile:
    """A target that appends lines to a file at once. The file and the one before it are half of what is allowed each.

    Args:
        name: of the file, without its ending.
        most: bytes of both files.
    """

    def __init__(self, folder: str, name: str, most: int) -> None:
        self._path = Path(folder, f"{name}.jsonl")
        self._half = most // 2

    def __str__(self) -> str:
        return str(self._path)

    def add(self, line: bytes) -> int:
        """See `Target`."""
        half = self._half
        if len(line) > half:
            raise LostError(
                f"a line of {len(line)} bytes is more than half of the {2 * half} that are allowed", 1
            )
        try:
            if self._path.exists() and self._path.stat().st_size + len(line) > half:
                self._path.replace(self._path.with_suffix(".1.jsonl"))
            with self._path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise LostError(str(error), 1) from None
        return 1

    def flush(self) -> int:
        """See `Target`."""
        return 0

    def wait(self) -> None:
        """See `Target`."""
        return
