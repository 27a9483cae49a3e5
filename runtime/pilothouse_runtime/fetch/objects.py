"""Objects in S3-compatible stores, Google Cloud Storage and Azure Blob Storage: one, or all below a prefix."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError, UnknownConfigurationKeyError
from obstore.store import ObjectStore

from pilothouse_runtime import stores
from pilothouse_runtime.engine.download import RetryableError, persist
from pilothouse_runtime.fetch.job import MOST_FILES, SECRET_FIELD, Job, check_count

_CHUNK: Final = 256 * 1024
_NOT_PARTIAL: Final = "non-partial response"


def fetch_objects(job: Job) -> str:
    """Fetch the object, or where the uri ends with / all below it, and return "". Raises LoadError."""
    parts = urlsplit(job.uri)
    key = unquote(parts.path).removeprefix("/")
    name = key.rstrip("/").rpartition("/")[2] or parts.netloc
    store = _store(job, parts.scheme, parts.netloc)
    if key and not key.endswith("/"):
        _Object(job, store, key, job.place(name)).fetch()
        return ""
    listed = _listed(job, store, key)
    job.expect(size for _, size in listed)
    for path, _ in listed:
        _Object(job, store, path, job.place(f"{name}/{path.removeprefix(key)}")).fetch()
    return ""


def _store(job: Job, scheme: str, bucket: str) -> ObjectStore:
    policy = job.policy
    client = {
        "connect_timeout": timedelta(seconds=policy.connect_timeout),
        "read_timeout": timedelta(seconds=policy.read_timeout),
        "timeout": "7days",  # of one answer with all its bytes, however large; silence ends it much earlier
    }
    # Attempts are made and told of by ourselves.
    retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=policy.patience)}
    try:
        return stores.make_store(scheme, bucket, job.environ, client, retry)
    except stores.StoreSettingError as error:
        raise job.refuse(str(error)) from None


def _listed(job: Job, store: ObjectStore, prefix: str) -> list[tuple[str, int]]:
    """Return path and size of all objects below a prefix; those that stand for folders are left out."""

    def attempt() -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        try:
            for page in obstore.list(store, prefix=prefix or None):
                found += [(entry["path"], entry["size"]) for entry in page]
                if len(found) > MOST_FILES:
                    break
        except (BaseError, OSError) as error:
            _raise_told(job, error)
        return [(path, size) for path, size in found if path.startswith(prefix) and path != prefix]

    job.say(f"listing {job.uri}")
    listed = persist(attempt, lambda: 0, job.uri, job.policy, job.say)
    check_count(job, len(listed))
    return sorted(listed)


class _Object:
    """One object on its way into a file; what arrived before a cut is kept."""

    def __init__(self, job: Job, store: ObjectStore, key: str, target: Path) -> None:
        self._job = job
        self._store = store
        self._key = key
        self._target = target
        self._received = 0
        self._tag: str | None = None  # says which version of the object it is that we have the start of

    def fetch(self) -> None:
        """Fetch it. Raises LoadError."""
        job = self._job
        job.say(f"asking for {job.uri}")
        with self._target.open("wb") as out:
            persist(lambda: self._attempt(out), lambda: self._received, job.uri, job.policy, job.say)
        job.finished(self._received)

    def _attempt(self, out: BinaryIO) -> None:
        options: Any = (
            {"range": {"offset": self._received}, "if_match": self._tag} if self._received else None
        )
        try:
            result = obstore.get(self._store, self._key, options=options)
            size = result.meta["size"]
            self._tag = result.meta["e_tag"]
            if not self._received:
                self._job.needs(size)
            for chunk in result.stream(min_chunk_size=_CHUNK):
                out.write(memoryview(chunk))
                self._received += len(chunk)
                self._job.arrived(self._received, size)
        except (BaseError, FileNotFoundError) as error:
            if isinstance(error, PreconditionError) or _NOT_PARTIAL in str(error) or self._tag is None:
                self._start_anew(out)
            _raise_told(self._job, error)
        if self._received != size:
            told = f"{self._received:,} of {size:,} bytes came"
            self._start_anew(out)
            raise RetryableError(told)

    def _start_anew(self, out: BinaryIO) -> None:
        out.seek(0)
        out.truncate()
        self._received = 0


def _raise_told(job: Job, error: Exception) -> NoReturn:
    """Raise what an error of a store means."""
    told = stores.told_by(error)
    needs = f"{SECRET_FIELD} must name a Secret with {stores.CREDENTIALS[urlsplit(job.uri).scheme]}"
    if told.unknown:
        raise job.refuse(f"there are no credentials; {needs}", permanent=False) from None
    if isinstance(error, FileNotFoundError) or told.status.startswith("404"):
        raise job.refuse("there is no such object; for all that is in a folder, end the uri with /") from None
    if told.denied:
        raise job.refuse(f"{told.words}; {needs}, who may read and list it") from None
    if isinstance(error, UnknownConfigurationKeyError):
        raise job.refuse(told.words) from None
    if isinstance(error, PreconditionError):
        raise RetryableError("the object was changed meanwhile") from None
    raise RetryableError(told.words) from None
