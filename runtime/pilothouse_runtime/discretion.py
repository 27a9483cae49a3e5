"""Keeps credentials out of whatever is told: a second line, behind messages that are made without them."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

# Names of variables that hold secrets, or whole files of them. What is no secret of these may be told less clearly.
_SECRET_NAMES: Final = re.compile(r"(?i)key|secret|token|passw|sas|credential|dockerconfig|auth|user")
_QUERY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_SHORTEST: Final = 4  # characters; shorter values stand in any text by chance
_SIGNATURE: Final = re.compile(r"(?:^|[?&])sig=([^&\s]+)")  # of Azure's SAS: a query that is a secret
_HIDDEN: Final = "***"


class Discretion:
    """Takes out of texts what the environment holds under the name of a secret, and the queries of URLs."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {
            part
            for name, value in environ.items()
            if _SECRET_NAMES.search(name)
            for part in _parts(value)
            if len(part) >= _SHORTEST
        }
        # The longest first: one may be the beginning of another.
        ordered = sorted(values, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return a text that may be told."""
        if self._secrets is not None:
            text = self._secrets.sub(_HIDDEN, text)
        return _QUERY.sub(r"\1", text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Make a log record tellable; for a handler."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        record.msg, record.args, record.exc_info = self(text), (), None
        return True


def _parts(value: str) -> Iterator[str]:
    """Yield a secret and what is in it: a signature, lines, fields of JSON, and what is base64 in these."""
    yield value
    yield value.strip()
    for found in _SIGNATURE.findall(value):
        yield from (found, unquote(found))
    try:
        data = json.loads(value)
    except (ValueError, RecursionError):
        return
    for text in _texts(data):
        yield text
        yield from text.splitlines()
        try:
            plain = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
        yield plain
        yield plain.partition(":")[2]


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for inner in data.values():
            yield from _texts(inner)
    elif isinstance(data, list):
        for inner in data:
            yield from _texts(inner)
