"""Models that pods share on a disk, by their digest: the first one brings a model, the others copy it.

Whoever uses an entry holds its lock (flock), which the kernel takes back from processes that end, however they do. What
is copied is checked anew by who copied it, so that an entry that was damaged (power was lost, somebody wrote to it)
costs a download and nothing else. Models are served from copies: what is evicted here is missed by nobody.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pilothouse_runtime.engine.space import is_full, said

log = logging.getLogger(__name__)

_ENTRY: Final = re.compile("sha256-([0-9a-f]{64})")
_PART: Final = re.compile("part-([0-9a-f]{64})")
_LOOK: Final = 0.5  # seconds between looks at a lock that another pod holds


class Shared:
    """The folder that pods share. It never fails: who cannot use it brings the model himself.

    Args:
        folder: on a local disk, or one whose locks work on all nodes.
        most_bytes: that all entries together may take; 0: as many as fit.
        tell: is given, for people, what is going on.
    """

    def __init__(self, folder: Path, most_bytes: int, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._tell = tell

    @contextmanager
    def locked(self, digest: str) -> Iterator[None]:
        """Be the only one, for as long as the block lasts, that brings the model of this digest."""
        with ExitStack() as held:
            try:
                lock = self._open_lock(digest)
                held.callback(os.close, lock)
                self._wait(lock)
            except OSError as error:
                log.warning("the cache %s is not used: %s", self._folder, error.strerror)
            yield

    def copy(self, digest: str, into: Path) -> bool:
        """Copy the entry's one file or folder into a folder; False where there is none. The caller checks it.

        Raises OSError where the disk is full. After another failure something may be in the folder.
        """
        entry = self._folder / f"sha256-{digest}"
        try:
            found = next(entry.iterdir(), None)
            os.utime(entry)  # used now: evicted last
        except OSError:
            return False
        if found is None:
            return False
        self._tell(f"copying {found.name} from the cache")
        try:
            _copy(found, into / found.name)
        except OSError as error:
            if is_full(error):
                raise
            self.remove(digest)
            return False
        return True

    def remove(self, digest: str) -> None:
        """Take away an entry that is not what its name says."""
        log.warning("the cache's sha256-%s is damaged, and is removed", digest)
        shutil.rmtree(self._folder / f"sha256-{digest}", ignore_errors=True)

    def keep(self, digest: str, model: Path) -> None:
        """Copy a file or folder that was found to have this digest into the cache, where it fits."""
        part = self._folder / f"part-{digest}"
        try:
            shutil.rmtree(part, ignore_errors=True)
            size = _size(model)
            if not self._make_room(size, digest):
                log.warning("a model of %s is not kept in the cache: there is no room", said(size))
                return
            part.mkdir()
            _copy(model, part / model.name)
            _sync(part)
            part.replace(self._folder / f"sha256-{digest}")
        except OSError as error:
            log.warning("the model is not kept in the cache %s: %s", self._folder, error.strerror)
            shutil.rmtree(part, ignore_errors=True)

    def _open_lock(self, digest: str) -> int:
        return os.open(self._folder / f"{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _wait(self, lock: int) -> None:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting:
                    waiting = True
                    self._tell("another pod brings the same model to the cache: waiting for it")
                time.sleep(_LOOK)
            else:
                return

    def _make_room(self, size: int, digest: str) -> bool:
        """Evict what was not used for longest, and what was left half written, until so many bytes fit."""
        entries = []
        for path in self._folder.iterdir():
            if (half := _PART.fullmatch(path.name)) and half[1] != digest:
                self._evict(path, half[1])
            elif (entry := _ENTRY.fullmatch(path.name)) and entry[1] != digest:
                entries.append((path.stat().st_mtime, path, entry[1], _size(path)))
        kept = sum(entry[3] for entry in entries)
        for _, path, other, its_size in sorted(entries):
            if self._fits(size, kept):
                break
            if self._evict(path, other):
                kept -= its_size
        return self._fits(size, kept)

    def _fits(self, size: int, kept: int) -> bool:
        allowed = not self._most_bytes or kept + size <= self._most_bytes
        return allowed and size < shutil.disk_usage(self._folder).free

    def _evict(self, path: Path, digest: str) -> bool:
        """Remove something of an entry that nobody uses at this moment."""
        lock = self._open_lock(digest)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log.info("evicting %s from the cache", path.name)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(Path(parent, name).lstat().st_size for parent, _, files in os.walk(path) for name in files)


def _sync(folder: Path) -> None:
    """Have everything below a folder on the disk before it gets its name."""
    for parent, _, files in os.walk(folder):
        for path in (Path(parent), *(Path(parent, name) for name in files)):
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
