"""A cheap, safe look at a file or folder: its first bytes, an archive's table of contents, the names in a folder."""

from __future__ import annotations

import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pilothouse_runtime.engine.failures import unloadable

_HEAD: Final = 2048
# Archives of models are hardly compressed: only code, configuration and debug tables are.
_EXPANSION: Final = 8
_SMALL: Final = 64 * 1024 * 1024  # bytes; what any archive may expand to
_MOST_FILES: Final = 100_000  # in a folder
_ZIP: Final = b"PK\x03\x04"


@dataclass(frozen=True)
class Look:
    """What a look shows.

    Attributes:
        head: the first bytes of a file.
        size: bytes of a file.
        archive: names in a zip archive, without the folder that holds them all in what torch writes.
        folder: paths of the files in a folder, relative to it, with / between their parts.
    """

    path: Path
    head: bytes = b""
    size: int = 0
    archive: frozenset[str] = frozenset()
    folder: frozenset[str] = frozenset()

    @property
    def is_archive(self) -> bool:
        """Whether it is a zip archive."""
        return self.head.startswith(_ZIP)


def look_at(path: Path) -> Look:
    """Return what a look at a file or folder shows.

    Raises:
        LoadError: ModelLoadFailed; an archive or a folder holds what no model holds, such as a name that leads out.
    """
    if path.is_dir():
        return Look(path, folder=_checked_folder(path))
    head = head_of(path)
    names = _checked_archive(path) if head.startswith(_ZIP) else frozenset()
    return Look(path, head, path.stat().st_size, names)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(_HEAD)


def _checked_folder(path: Path) -> frozenset[str]:
    """Return the names of the files: no links (they may lead out, and have no place in the digest) or devices."""
    names = set()
    for folder, below, files in os.walk(path):
        for name in (*below, *files):
            entry = Path(folder, name)
            mode = entry.lstat().st_mode
            told = f"{path.name}: {entry.relative_to(path).as_posix()!r}"
            if stat.S_ISLNK(mode):
                raise unloadable(f"{told} is a symbolic link; a model's folder holds plain files only")
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise unloadable(f"{told} is neither a file nor a folder")
            if stat.S_ISREG(mode):
                names.add(entry.relative_to(path).as_posix())
        if len(names) > _MOST_FILES:
            raise unloadable(f"{path.name} holds more than {_MOST_FILES:,} files: no model does that")
    return frozenset(names)


def _checked_archive(path: Path) -> frozenset[str]:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise unloadable(
            f"{path.name} is a broken archive of {size:,} bytes ({error}): is it cut off?"
        ) from None
    names = [entry.filename for entry in entries]
    for entry in entries:
        name = entry.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise unloadable(f"{path.name}: the archive holds the name {name!r}, which leads out of it")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise unloadable(f"{path.name}: {name!r} in the archive is a symbolic link")
    if len(set(names)) != len(names):
        raise unloadable(f"{path.name}: the archive holds the same name twice")
    expanded = sum(entry.file_size for entry in entries)
    if expanded > max(_SMALL, _EXPANSION * size):
        raise unloadable(f"{path.name}: {size:,} bytes would expand to {expanded:,}: no model does that")
    one_folder = len({name.split("/", 1)[0] for name in names}) == 1
    return frozenset(name.partition("/")[2] for name in names) if one_folder else frozenset(names)
