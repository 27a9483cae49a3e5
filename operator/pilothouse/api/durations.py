"""Durations as Kubernetes users write them: Go's syntax, such as 500ms, 30s, 10m or 1h30m."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Annotated, Final

from pydantic import Field

from pilothouse.api.rules import Rule, SpecModel, in_cel

# A subset of Go's time.ParseDuration: no sign, no bare 0, nothing below a millisecond. Go, CEL's duration()
# and this module understand it alike.
DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
# The longest that any field takes.
MAX_DURATION: Final = "24h"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
# Wide enough for whatever the pattern and the length of a duration allow: nothing is ever rounded.
_EXACT = Context(prec=64)

Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=32)]


def seconds(text: str) -> float:
    """Return how many seconds a duration such as "1h30m" lasts.

    Raises:
        ValueError: `text` is no duration.
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f'"{text}" is not a duration such as "500ms", "30s", "10m" or "1h30m"')
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(text))


def canonical(text: str) -> str:
    """Return the one way of writing how long a duration lasts, in milliseconds: "2ms" and "0.002s" become "2ms".

    Raises:
        ValueError: `text` is no duration.
    """
    seconds(text)
    total = Decimal(0)
    for amount, unit in _PART.findall(text):
        total = _EXACT.add(total, _EXACT.multiply(Decimal(amount), Decimal(_MILLISECONDS[unit])))
    return f"{total.normalize(_EXACT):f}ms"


def between(field: str, attribute: str, least: str, most: str = MAX_DURATION) -> Rule:
    """Return the rule that a duration must lie between two others, both included."""

    def holds(self: SpecModel) -> bool:
        value = getattr(self, attribute)
        return value is None or seconds(least) <= seconds(value) <= seconds(most)

    name = f"self.{in_cel(field)}"
    return Rule(
        field,
        f"must be between {least} and {most}",
        holds,
        f"!has({name}) || duration({name}) >= duration('{least}') && duration({name}) <= duration('{most}')",
    )
