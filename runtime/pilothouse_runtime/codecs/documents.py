"""Reads the JSON of a body, in whichever version of the protocol."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from pilothouse_runtime.codecs.elements import Buffer
from pilothouse_runtime.core.errors import invalid

# As Python's json writes them, and nobody else reads them.
_NO_NUMBER: Final = re.compile(r"-?(NaN|Infinity)")


def read_document(what: str, body: Buffer) -> dict[str, Any]:
    """Return the JSON object in a body; `what` it is, for messages.

    Raises:
        RequestError: it is none.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the {what} is not JSON: {error}{_advice(error)}") from None
    if not isinstance(document, dict):
        raise invalid(f"the {what} must be a JSON object")
    return document


def _advice(error: orjson.JSONDecodeError) -> str:
    before = max(0, error.pos - 1)  # the sign
    if _NO_NUMBER.search(error.doc[before : error.pos + 9]):
        return "; JSON has no NaN and no infinity: send binary tensors, where the model is to get them"
    return ""
