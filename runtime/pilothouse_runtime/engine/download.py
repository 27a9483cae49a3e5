"""Downloads over HTTP into a file, through cut connections, and gives up in bounded time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    ResponseError,
    SSLError,
)
from urllib3.util import Retry, Timeout

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.engine.space import check_room

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CHUNK: Final = 256 * 1024
_PROGRESS: Final = 1024 * 1024  # bytes; an attempt that brings less counts as one without progress
_SLOWEST: Final = 1024  # bytes a second; below it for `patience` seconds a host counts as silent
_REDIRECTS: Final = 5
_RETRIED: Final = frozenset({408, 425, 429})  # of the 4xx, those that time may cure
_HEADERS: Final = {"User-Agent": "pilothouse-runtime", "Accept-Encoding": "identity"}
# Redirects are followed by urllib3 and nothing else is tried again: cut bodies need a loop of their own anyway.
# A server's Retry-After is not waited for: it may be any time.
_RETRIES: Final = Retry(
    total=None, connect=0, read=0, status=0, other=0, redirect=_REDIRECTS, respect_retry_after_header=False
)


@dataclass(frozen=True)
class DownloadPolicy:
    """When to give up; all times in seconds."""

    connect_timeout: float = 5
    read_timeout: float = 15
    attempts: int = 3  # in a row without progress
    patience: float = 30  # no attempt begins this long after the last progress
    backoff: float = 1  # before the second attempt, then doubled


def failed(message: str, *, permanent: bool) -> LoadError:
    """Return the failure of getting a model."""
    return LoadError(FailureReason.MODEL_DOWNLOAD_FAILED, message, permanent=permanent)


def bare(url: str) -> str:
    """Return the URL without its query and fragment, which may hold a signature."""
    return url.split("?", 1)[0].split("#", 1)[0]


class RetryableError(Exception):
    """An attempt failed in a way that the next one need not."""


def persist(
    attempt: Callable[[], _T],
    arrived: Callable[[], int],
    what: str,
    policy: DownloadPolicy,
    tell: Callable[[str], None],
) -> _T:
    """Make attempts until one succeeds, and return what it returned.

    Args:
        attempt: raises RetryableError where another one is worth it.
        arrived: says how many bytes there are by now.
        what: is being fetched, for messages.
        tell: is given, for people, what is going on.
    Raises:
        LoadError: ModelDownloadFailed, once the policy's patience is over.
    """
    failures = 0
    since = time.monotonic()
    while True:
        before = arrived()
        try:
            return attempt()
        except RetryableError as error:
            reason = f"{what}: {error}"
        if arrived() - before >= _PROGRESS:
            failures, since = 0, time.monotonic()
        else:
            failures += 1
        log.warning("download attempt failed: %s", reason)
        pause = policy.backoff * 2 ** max(failures - 1, 0)
        if failures >= policy.attempts or time.monotonic() + pause - since > policy.patience:
            raise failed(f"{reason}; gave up after {failures} attempts in a row", permanent=False)
        tell(f"{reason}; next attempt in {pause:g} s")
        time.sleep(pause)


class Download:
    """Fetches one file; what arrived before a cut is kept where the server lets a download be resumed.

    Args:
        url: http or https; its query is sent but never told.
        target: written from its start.
        tell: is given, for people, what is going on.
        uri_field: the field of the spec that holds the URL, for messages.
        headers: sent with each request, but not to another host that a redirect leads to if they authorise.
        arrived: is told of bytes that came, and how many the file has if that is known, in place of `tell`.
    """

    def __init__(
        self,
        url: str,
        target: Path,
        policy: DownloadPolicy,
        tell: Callable[[str], None],
        uri_field: str,
        *,
        headers: Mapping[str, str] | None = None,
        arrived: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self._headers = {**_HEADERS, **(headers or {})}
        self._arrived = arrived or self._tell_bytes
        self._told_at = 0.0
        self._url = url
        self._uri_field = uri_field
        self._target = target
        self._policy = policy
        self._tell = tell
        self._received = 0
        self._validator = ""  # says to the server which version of the file it is that we have the start of

    def run(self) -> str:
        """Return the content type that the server gave, or "", once the whole body is in the target.

        Raises:
            LoadError: ModelDownloadFailed, permanent where another try must fail in the same way.
            OSError: the target cannot be written.
        """
        policy = self._policy
        timeout = Timeout(connect=policy.connect_timeout, read=policy.read_timeout)
        with urllib3.PoolManager(timeout=timeout, retries=_RETRIES) as pool, self._target.open("wb") as out:
            return persist(
                lambda: self._attempt(pool, out), lambda: self._received, bare(self._url), policy, self._tell
            )

    def _attempt(self, pool: urllib3.PoolManager, out: BinaryIO) -> str:
        headers = dict(self._headers)
        if self._received and self._validator:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._validator}
        self._tell(f"asking {bare(self._url)}")
        try:
            response = pool.request("GET", self._url, headers=headers, preload_content=False)
            try:
                self._begin(response, out)
                self._copy(response, out)
            finally:
                response.close()
        except LocationValueError as error:
            raise failed(
                f"{bare(self._url)}: it or where it redirects to is no URL", permanent=True
            ) from error
        except HTTPError as error:
            self._raise_told(error)
        return str(response.headers.get("Content-Type", ""))

    def _begin(self, response: urllib3.BaseHTTPResponse, out: BinaryIO) -> None:
        """Check the status, and set `out` to where the body belongs."""
        status = response.status
        if status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {self._received}-"):
            return
        out.seek(0)
        out.truncate()
        self._received = 0
        if status == 200:
            etag = response.headers.get("ETag", "")
            strong = etag if not etag.startswith("W/") else ""
            self._validator = strong or response.headers.get("Last-Modified", "")
            return
        self._validator = ""
        told = f"the server answered {status} {response.reason or ''}".rstrip()
        if status >= 500 or status in _RETRIED or status in (206, 416):
            raise RetryableError(told)
        raise failed(
            f"{bare(self._url)}: {told}; check {self._uri_field} and who may read it", permanent=True
        )

    def _copy(self, response: urllib3.BaseHTTPResponse, out: BinaryIO) -> None:
        left = response.headers.get("Content-Length")
        total = self._received + int(left) if left is not None and left.isdigit() else None
        if total is not None:
            check_room(self._target.parent, total - self._received, bare(self._url))
        marked, marked_at = self._received, time.monotonic()
        while chunk := response.read1(_CHUNK, decode_content=False):
            out.write(chunk)
            self._received += len(chunk)
            self._arrived(self._received, total)
            now = time.monotonic()
            if now - marked_at >= self._policy.patience:
                if self._received - marked < _SLOWEST * self._policy.patience:
                    raise RetryableError(f"slower than {_SLOWEST} bytes a second")
                marked, marked_at = self._received, now
        out.flush()

    def _tell_bytes(self, received: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told_at >= 1:
            self._told_at = now
            of_all = f" of {total:,}" if total is not None else ""
            self._tell(f"{received:,}{of_all} bytes of {bare(self._url)}")

    def _raise_told(self, error: HTTPError) -> None:
        """Raise what an error of urllib3's means; its own text may hold the URL's query."""
        if isinstance(error, MaxRetryError) and isinstance(error.reason, ResponseError):
            raise failed(f"{bare(self._url)}: more than {_REDIRECTS} redirects", permanent=True) from error
        after = f" after {self._received:,} bytes" if self._received else ""
        raise RetryableError(
            in_words(error, self._policy.connect_timeout, self._policy.read_timeout) + after
        ) from error


def in_words(error: HTTPError, connect_timeout: float, read_timeout: float = math.inf) -> str:
    """Return what went wrong between two hosts: urllib3's own text may hold the URL's query. Times in seconds."""
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(cause, NameResolutionError):
        return "the host's name cannot be resolved"
    if isinstance(cause, ReadTimeoutError):
        return f"no data for {read_timeout:g} s"
    if isinstance(cause, NewConnectionError):  # of which the next one is the parent
        return f"cannot connect: {_strerror(cause)}"
    if isinstance(cause, ConnectTimeoutError):
        return f"no connection within {connect_timeout:g} s"
    if isinstance(cause, SSLError):
        return f"TLS: {cause}"
    return "the connection was cut"


def _strerror(error: BaseException) -> str:
    cause = error.__cause__
    return (cause.strerror if isinstance(cause, OSError) else None) or "no route"
