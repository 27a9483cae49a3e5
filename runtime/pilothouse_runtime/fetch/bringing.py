"""Brings a model to the folder that the serving container reads: from the cache, or from where it is; checked."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pilothouse_runtime import contract
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import bad_setting
from pilothouse_runtime.engine.download import DownloadPolicy, bare, failed
from pilothouse_runtime.engine.fetched import Record, read_record, write_record
from pilothouse_runtime.engine.source import LocalFile, verify
from pilothouse_runtime.engine.space import told_when_full
from pilothouse_runtime.fetch.job import Job
from pilothouse_runtime.fetch.settings import FetchSettings
from pilothouse_runtime.fetch.shared import Shared

log = logging.getLogger(__name__)

SCHEMES: Final = ("az", "gs", "hf", "http", "https", "oci", "s3")
_CONTENT, _PART = "content", "part"


def bring(
    settings: FetchSettings,
    environ: Mapping[str, str],
    folder: Path,
    policy: DownloadPolicy,
    tell: Callable[[str], None],
) -> Record:
    """Bring the model that the settings name into `folder`, and leave a record of it there.

    What an earlier start of the same pod left is taken where it has the digest asked for, and removed otherwise.

    Args:
        environ: where credentials are.
        tell: is given, for people, what is going on.
    Raises:
        LoadError: InvalidConfiguration, ModelDownloadFailed, NoSpace or DigestMismatch. Nothing is left then.
    """
    begun = time.monotonic()
    scheme = urlsplit(settings.uri).scheme
    if scheme not in SCHEMES:
        raise bad_setting(contract.ENV_FETCH_URI, f"its scheme must be one of {', '.join(SCHEMES)}")
    kept = _kept(settings, folder, tell)
    if kept is not None:
        return kept
    done = False
    try:
        with told_when_full(folder, "the model"):
            _clear(folder)
            part = folder / _PART
            part.mkdir(parents=True)
            file = _Bringing(settings, environ, part, policy, tell).bring()
            part.rename(folder / _CONTENT)
            path = f"{_CONTENT}/{file.path.name}"
            record = Record(path, settings.digest, file.content_type, time.monotonic() - begun)
            write_record(folder, record)
        done = True
    except OSError as error:
        raise failed(f"cannot write to {folder}: {error.strerror}", permanent=False) from error
    finally:
        if not done:
            _clear(folder)
    return record


def _kept(settings: FetchSettings, folder: Path, tell: Callable[[str], None]) -> Record | None:
    """Return the record of what is here already, if it is what is asked for."""
    record = read_record(folder)
    if record is None or settings.digest is None or record.digest != settings.digest:
        return None
    tell("checking what an earlier start has brought")
    try:
        verify(LocalFile(folder / record.path), settings.digest, settings.spec_field)
    except (LoadError, OSError):
        return None
    return record


def _clear(folder: Path) -> None:
    """Remove whatever is in the folder, which is for models only."""
    if folder.is_dir():
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


class _Bringing:
    """One model on its way into an empty folder."""

    def __init__(
        self,
        settings: FetchSettings,
        environ: Mapping[str, str],
        into: Path,
        policy: DownloadPolicy,
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._into = into
        self._tell = tell
        self._job = Job(bare(settings.uri), environ, into, policy, settings.spec_field, tell)

    def bring(self) -> LocalFile:
        """Return the file or folder in the folder, checked."""
        settings = self._settings
        if settings.cache is None or settings.digest is None:
            return self._fetched()
        shared = Shared(settings.cache, settings.cache_bytes, self._tell)
        with shared.locked(settings.digest):
            if shared.copy(settings.digest, self._into):
                try:
                    return self._checked("")
                except LoadError:
                    shared.remove(settings.digest)
            _clear(self._into)
            file = self._fetched()
            shared.keep(settings.digest, file.path)
            return file

    def _fetched(self) -> LocalFile:
        return self._checked(_fetch(self._job, self._settings.uri))

    def _checked(self, content_type: str) -> LocalFile:
        (path,) = self._into.iterdir()
        file = LocalFile(path, content_type)
        if self._settings.digest:
            self._tell(f"checking the sha256 of {path.name}")
            verify(file, self._settings.digest, self._settings.spec_field)
        return file


def _fetch(job: Job, uri: str) -> str:
    """Fetch by the module of the scheme, and return the content type that was told, or "".

    Each imports the library that it needs: they take a second together.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        from pilothouse_runtime.fetch.web import fetch_web

        return fetch_web(job, uri)
    if scheme == "hf":
        from pilothouse_runtime.fetch.hub import fetch_hub

        return fetch_hub(job)
    if scheme == "oci":
        from pilothouse_runtime.fetch.layers import fetch_oci

        return fetch_oci(job)
    from pilothouse_runtime.fetch.objects import fetch_objects

    return fetch_objects(job)
