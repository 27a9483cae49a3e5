"""Objects in S3-compatible stores, Google Cloud Storage and Azure Blob Storage: one, or all below a prefix."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from pilothouse_runtime.engine.download import RetryableError, persist
from pilothouse_runtime.fetch.job import MOST_FILES, SECRET_FIELD, Job, check_count

STORES: Final[dict[str, Callable[..., ObjectStore]]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_SERVICE_ACCOUNT_KEY, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)",
}
# Addresses of the store, in the environment; with http:// in them they ask for what is refused otherwise.
_ENDPOINTS: Final = re.compile("^(AWS|GOOGLE|AZURE)_.*(ENDPOINT|URL)")
_METADATA: Final = ("169.254.169.254", "metadata.google.internal", "metadata/identity")  # of cloud machines
_CHUNK: Final = 256 * 1024
_STATUS: Final = re.compile(r"status code: (\d{3}[^:\n]*)")
_MESSAGE: Final = re.compile(r"<Message>([^<\n]{1,300})")
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
    plain = any(
        value.startswith("http://") for variable, value in job.environ.items() if _ENDPOINTS.match(variable)
    )
    options = {
        "allow_http": plain or job.environ.get("AZURE_STORAGE_USE_EMULATOR") == "true",
        "connect_timeout": timedelta(seconds=policy.connect_timeout),
        "read_timeout": timedelta(seconds=policy.read_timeout),
        "timeout": "7days",  # of one answer with all its bytes, however large; silence ends it much earlier
        "user_agent": "pilothouse-runtime",
    }
    # Attempts are made and told of by ourselves.
    retry = {"max_retries": 0, "retry_timeout": timedelta(seconds=policy.patience)}
    try:
        return STORES[scheme](bucket, client_options=options, retry_config=retry)
    except (BaseError, ValueError) as error:
        raise job.refuse(f"{_first_line(error)}; the Secret needs {_CREDENTIALS[scheme]}") from None


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
    """Raise what an error of a store means; its own text goes on for pages, and may hold what nobody should read."""
    text = str(error)
    said = _STATUS.search(text)
    status = said.group(1).strip() if said else ""
    message = _MESSAGE.search(text)
    told = f"the store answered {status}" + (f" ({message.group(1).strip()})" if message else "")
    scheme = urlsplit(job.uri).scheme
    needs = f"{SECRET_FIELD} must name a Secret with {_CREDENTIALS[scheme]}"
    if any(name in text for name in _METADATA):
        raise job.refuse(f"there are no credentials; {needs}", permanent=False) from None
    if isinstance(error, FileNotFoundError) or status.startswith("404"):
        raise job.refuse("there is no such object; for all that is in a folder, end the uri with /") from None
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if denied or status[:3] in ("400", "401", "403"):
        told = told if status else "the store does not know who asks"
        raise job.refuse(f"{told}; {needs}, who may read and list it") from None
    if isinstance(error, UnknownConfigurationKeyError):
        raise job.refuse(_first_line(error)) from None
    if isinstance(error, PreconditionError):
        raise RetryableError("the object was changed meanwhile") from None
    raise RetryableError(told if status else _first_line(error)) from None


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0]
    # What was done, where and how often comes first; what went wrong stands after the last dash.
    return line.rpartition(" - ")[2] or type(error).__name__
