"""One fetch as the modules of the schemes see it: where to, how patiently, and how far it is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.engine.download import Download, DownloadPolicy, failed
from pilothouse_runtime.engine.space import check_room, said

MOST_FILES: Final = 10_000  # a model has dozens; a prefix that names a whole bucket has more
SECRET_FIELD: Final = "model.secretName"  # noqa: S105 - the name of a field
_UNTELLABLE: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_LONGEST: Final = 255  # bytes of a name on Linux' file systems


@dataclass
class Job:
    """What is to be fetched.

    Attributes:
        uri: as the spec has it, without query.
        environ: with the credentials.
        into: an empty folder; what is fetched becomes the one file or folder in it.
        spec_field: the field of the spec under which its user wrote uri and digest.
        say: is given, for people, what is going on.
    """

    uri: str
    environ: Mapping[str, str]
    into: Path
    policy: DownloadPolicy
    spec_field: str
    say: Callable[[str], None]
    _total: int | None = None
    _done: int = 0
    _said_at: float = field(default=0.0, repr=False)

    def refuse(self, message: str, *, permanent: bool = True) -> LoadError:
        """Return the failure to get it; the message follows the uri."""
        return failed(f"{self.uri}: {message}", permanent=permanent)

    def expect(self, sizes: Iterable[int]) -> None:
        """Say how many bytes the files have that will come. Raises LoadError (NoSpace) where they do not fit."""
        self._total = sum(sizes)
        self.needs(self._total)

    def needs(self, size: int) -> None:
        """Raise LoadError (NoSpace) where so many bytes more do not fit."""
        check_room(self.into, size, self.uri)

    def arrived(self, received: int, total: int | None = None) -> None:
        """Say how many bytes of the present file are there, and how many it has."""
        now = time.monotonic()
        if now - self._said_at >= 1:
            self._said_at = now
            whole = self._total if self._total is not None else total
            of_all = f" of {said(whole)}" if whole is not None else ""
            self.say(f"{said(self._done + received)}{of_all} from {self.uri}")

    def finished(self, size: int) -> None:
        """Say that the present file is whole."""
        self._done += size

    def place(self, name: str) -> Path:
        """Return where a file belongs whose name somebody else chose, with / between folders; its folder is made.

        Raises:
            LoadError: the name leads elsewhere, or is none.
        """
        return safe_place(self, self.into, name)

    def download(self, url: str, target: Path, headers: Mapping[str, str]) -> str:
        """Download a file of it over HTTP, with these headers beside the usual ones; return its content type."""
        download = Download(
            url,
            target,
            self.policy,
            self.say,
            f"{self.spec_field}.uri, {SECRET_FIELD}",
            headers=headers,
            arrived=self.arrived,
        )
        content_type = download.run()
        self.finished(target.stat().st_size)
        return content_type


def safe_place(job: Job, folder: Path, name: str) -> Path:
    """Return where in `folder` a file belongs; as `Job.place`."""
    parts = name.split("/")
    if _UNTELLABLE.search(name) or any(
        part in ("", ".", "..") or len(part.encode()) > _LONGEST for part in parts
    ):
        raise job.refuse(f"it holds the name {name[:300]!r}, which is no path below a folder")
    path = folder.joinpath(*PurePosixPath(name).parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise job.refuse(f"it holds {name!r}, and a file in the place of one of its folders") from None
    if path.is_dir():
        raise job.refuse(f"it holds {name!r} as a file and as a folder")
    return path


def check_count(job: Job, count: int) -> None:
    """Raise LoadError unless so many files may be one model."""
    if count == 0:
        raise job.refuse("there is nothing; check the spelling")
    if count > MOST_FILES:
        raise job.refuse(f"it holds more than {MOST_FILES:,} files: name the model's own folder")
