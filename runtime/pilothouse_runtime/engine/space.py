"""Disks that are full, or will be: said with how much is needed, and where."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def said(size: float) -> str:
    """Return bytes as people say them, such as "1.2 GB"."""
    index = 0
    while size >= 999.5 and index < len(_UNITS) - 1:
        size, index = size / 1000, index + 1
    return f"{size:.0f} {_UNITS[index]}" if index == 0 or size >= 99.95 else f"{size:.1f} {_UNITS[index]}"


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise LoadError (NoSpace) unless so many bytes more fit where `folder` is."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise LoadError(
            FailureReason.NO_SPACE,
            f"{folder}: {what} needs {said(needed)} more, and {said(free)} are free on the disk below it; free some"
            " or use nodes with larger disks",
            permanent=False,
        )


def is_full(error: OSError) -> bool:
    """Whether this is the system's error about a full disk."""
    # shutil.copytree gathers the errors of all files, as text, in one that has no number.
    return error.errno in _FULL or any(os.strerror(number) in str(error) for number in _FULL)


@contextmanager
def told_when_full(folder: Path, what: str) -> Iterator[None]:
    """Turn the system's error about a full disk into LoadError (NoSpace) that names the folder and what was written."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        free = said(shutil.disk_usage(folder).free)
        raise LoadError(
            FailureReason.NO_SPACE,
            f"{folder}: no space left while {what} was written, {free} are free on the disk below it;"
            " free some or use nodes with larger disks",
            permanent=False,
        ) from error
