"""The digest of a model, a file or a folder: what `spec.model.digest` is compared with, and what `digest` prints.

Of a file it is its sha256. Of a folder it is the sha256 of one line for each regular file, `<hex sha256>  ./<path>`,
sorted by the bytes of `./<path>`: in a shell, `find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = "sha256:"
# sha256sum writes such names in a way of its own, and a line break could make one file look like two.
_UNTELLABLE: Final = re.compile(rb"[\x00-\x1f\x7f\\]")


class DigestError(ValueError):
    """There is no digest; the message says why, and names the path in a folder."""


def digest_of(path: Path) -> str:
    """Return sha256:<64 hexadecimal digits> of a file or a folder.

    Raises:
        DigestError: the folder holds what a digest cannot speak for; or it is neither a folder nor a file.
        OSError: something cannot be read.
    """
    if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):  # a pipe, or a device without an end
        raise DigestError("is neither a file nor a folder, and has no digest")
    return PREFIX + (folder_sha256(path) if path.is_dir() else file_sha256(path))


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return a folder's digest in hexadecimal digits; empty folders in it do not count. Raises as `digest_of`."""
    whole = hashlib.sha256()
    for name, path in sorted(_files(folder)):
        whole.update(f"{file_sha256(path)}  ".encode() + name + b"\n")
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[tuple[bytes, Path]]:
    """Yield each file as ./<path> in bytes, and where it is."""
    found = False
    for parent, folders, files in os.walk(folder, onerror=_cannot):
        for entry in (*folders, *files):
            path = Path(parent, entry)
            name = os.fsencode(path.relative_to(folder))
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if _UNTELLABLE.search(name):
                raise DigestError(
                    f"{os.fsdecode(name)!r}: a name with control characters or \\; rename the file"
                )
            if not stat.S_ISREG(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise DigestError(f"{os.fsdecode(name)!r} is {kind}; put the file itself in its place")
            found = True
            yield b"./" + name, path
    if not found:
        raise DigestError("the folder holds no file")


def _cannot(error: OSError) -> None:
    raise error
