"""Where samples are kept: objects of a store, one for each minute in which there were any.

Imported only where they are asked for: the library takes a moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from pilothouse_runtime import contract, stores
from pilothouse_runtime.core.settings import bad_setting
from pilothouse_runtime.discretion import Discretion
from pilothouse_runtime.serve.sample_files import LostError

_INTERVAL: Final = 60.0  # seconds
# Of one object: three attempts more where the store is away or busy, none where it refuses.
_CLIENT: Final = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=20)}
_RETRY: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


def store_of(uri: str, environ: Mapping[str, str]) -> ObjectStore:
    """Return the store of a uri, by the credentials of this process' environment.

    Raises:
        LoadError: InvalidConfiguration, where the environment holds something that no store can be made of.
    """
    parts = urlsplit(uri)
    try:
        return stores.make_store(parts.scheme, parts.netloc, environ, _CLIENT, _RETRY)
    except stores.StoreSettingError as error:
        raise bad_setting(contract.ENV_SAMPLING_URI, Discretion(environ)(str(error))) from None


class SampleObjects:
    """A target that gathers lines, and writes them as one object: after a while, or when there is no room for more.

    An object is named by day, time, pod and number, so that none is ever written over.

    Args:
        uri: of bucket and prefix.
        name: the pod's.
        most: bytes of one object; so much is held in memory.
        interval: seconds from the first line of an object to its end.
    """

    def __init__(
        self, uri: str, store: ObjectStore, name: str, most: int, interval: float = _INTERVAL
    ) -> None:
        self._uri = uri
        self._prefix = unquote(urlsplit(uri).path).removeprefix("/")
        self._store = store
        self._name = name
        self._most = most
        self._interval = interval
        self._discreet = Discretion(os.environ)
        self._gathered = bytearray()
        self._lines = 0
        self._due = 0.0
        self._number = 0

    def __str__(self) -> str:
        return self._uri

    def add(self, line: bytes) -> int:
        """See `Target`."""
        if len(line) > self._most:
            raise LostError(f"a line of {len(line)} bytes is more than the {self._most} of an object", 1)
        full = len(self._gathered) + len(line) > self._most
        try:
            return self.flush() if full or self.wait() == 0 else 0
        finally:
            if not self._lines:
                self._due = time.monotonic() + self._interval
            self._gathered += line
            self._lines += 1

    def flush(self) -> int:
        """See `Target`; what cannot be written is not kept."""
        if not self._lines:
            return 0
        gathered, self._gathered = self._gathered, bytearray()
        lines, self._lines = self._lines, 0
        self._number += 1
        now = datetime.now(UTC)
        key = f"{self._prefix}{now:%Y-%m-%d}/{now:%H%M%S.%f}-{self._name}-{self._number}.jsonl"
        try:
            obstore.put(self._store, key, gathered, use_multipart=False)
        except (BaseError, OSError) as error:
            raise LostError(self._discreet(self._why(error)), lines) from None
        return lines

    def wait(self) -> float | None:
        """See `Target`."""
        return max(self._due - time.monotonic(), 0) if self._lines else None

    def _why(self, error: Exception) -> str:
        told = stores.told_by(error)
        if not told.unknown and not told.denied:
            return told.words
        words = "there are no credentials" if told.unknown else told.words
        credentials = stores.CREDENTIALS[urlsplit(self._uri).scheme]
        return (
            f"{words}; runtime.sampling.secretName must name a Secret with {credentials}, who may write there"
        )
