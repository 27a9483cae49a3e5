"""From pydantic's JSON Schema to a structural one: what is translated, and that nothing is passed over in silence."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from pilothouse.api.schema import structural, without_cel


class Colour(StrEnum):
    RED = "red"


class Inner(BaseModel):
    size: int = Field(default=3, le=10, description="How large.")


class Outer(BaseModel):
    inner: Inner = Field(default_factory=Inner, description="Its own description wins.")
    maybe: Inner | None = Field(default=None, description="May be left out.")
    colour: Colour = Colour.RED
    names: tuple[str, ...] = ()
    big: int = 0
    labels: dict[str, Annotated[str, Field(max_length=3)]] = Field(default_factory=dict)


def test_a_model_is_written_out_without_references() -> None:
    schema = structural(Outer)
    inner = {
        "type": "object",
        "properties": {
            "size": {
                "type": "integer",
                "format": "int32",
                "maximum": 10,
                "default": 3,
                "description": "How large.",
            }
        },
    }
    assert schema["properties"] == {
        "inner": inner | {"default": {}, "description": "Its own description wins."},
        "maybe": inner | {"description": "May be left out."},
        "colour": {"type": "string", "enum": ["red"], "default": "red"},
        "names": {"type": "array", "items": {"type": "string"}},
        "big": {"type": "integer", "format": "int64", "default": 0},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
    }


def test_what_cannot_be_said_structurally_is_an_error() -> None:
    class TwoTypes(BaseModel):
        either: int | list[str]

    class Exclusive(BaseModel):
        positive: int = Field(gt=0)

    with pytest.raises(ValueError, match="several types"):
        structural(TwoTypes)
    with pytest.raises(ValueError, match="no translation for exclusiveMinimum"):
        structural(Exclusive)


def test_rules_are_taken_out_at_every_depth() -> None:
    rules = {"x-kubernetes-validations": [{"rule": "true", "message": "m"}]}
    schema = {
        "properties": {"a": {"items": {"type": "string", **rules}}, **{"b": rules}},
        "list": [rules],
        **rules,
    }
    assert without_cel(schema) == {"properties": {"a": {"items": {"type": "string"}}, "b": {}}, "list": [{}]}
