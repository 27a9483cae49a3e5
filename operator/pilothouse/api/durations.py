"""Durations as Kubernetes users write them: Go's syntax, such as 500ms, 30s, 10m or 1h30m."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

# A subset of Go's time.ParseDuration: no sign, no bare 0, nothing below a millisecond. Go, CEL's duration()
# and this module understand it alike.
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
# The longest that any field takes.
MAX_DURATION: Final = "24h"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=32)]


def seconds(text: str) -> float:
    """Return how many seconds a duration such as "1h30m" lasts.

    Raises:
        ValueError: `text` is no duration.
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f'"{text}" is not a duration such as "500ms", "30s", "10m" or "1h30m"')
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))
