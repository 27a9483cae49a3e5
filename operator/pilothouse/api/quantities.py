"""Kubernetes resource quantities: 500m, 2, 1.5Gi."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

# What apimachinery's resource.Quantity takes, without a sign: no resource can be asked for in negative amounts.
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)([KMGTPE]i|[numkMGTPE])?")
_MAX_LENGTH = 32
# Wide enough for the longest quantity times the largest scale: nothing is ever rounded.
_EXACT = Context(prec=64)
_SCALES: Final = {
    None: Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def _text(value: Any) -> Any:
    """Write whole numbers as text; YAML's 0.5 is refused as the API server refuses it for int-or-string."""
    if isinstance(value, bool | float):
        raise PydanticCustomError("quantity_type", "must be a whole number or text")
    return str(value) if isinstance(value, int) else value


Quantity = Annotated[
    str,
    BeforeValidator(_text),
    Field(pattern=QUANTITY_PATTERN, max_length=_MAX_LENGTH),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "maxLength": _MAX_LENGTH,
            "minimum": 0,
        }
    ),
]


def amount(text: str) -> Decimal:
    """Return the number that a quantity stands for.

    Raises:
        ValueError: `text` is no quantity.
    """
    parts = _PARTS.fullmatch(text)
    if not parts:
        raise ValueError(f'"{text}" is not a quantity such as "500m", "2" or "1.5Gi"')
    return _EXACT.multiply(Decimal(parts[1]), _SCALES[parts[2]])


def canonical(text: str) -> str:
    """Return the one way of writing this amount: "1", "1000m" and "1.0" all become "1"."""
    return f"{amount(text).normalize(_EXACT):f}"
