"""What an API server does with a structural schema, in Python: fills in defaults, drops unknown fields, checks.

From Kubernetes' documentation ("Extend the Kubernetes API with CustomResourceDefinitions"); the integration tests
hold the same things to a real API server.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import cel
import jsonschema  # type: ignore[import-untyped] # has no types

Json = dict[str, Any]

# What CEL takes for something else than a name, and how the API server calls fields of these names
# (Kubernetes documentation, "Validation rules").
CEL_WORDS = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return"
)
CEL_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}


def defaulted(schema: Json, value: Any) -> Any:
    """Return `value` with the defaults of `schema` filled in."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, child in schema.get("properties", {}).items():
            if name not in filled and "default" in child:
                filled[name] = copy.deepcopy(child["default"])
        return {name: defaulted(_child(schema, name), item) for name, item in filled.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def dropped(schema: Json, value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths in `value` that the server would drop without a word."""
    if isinstance(value, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        for name, item in value.items():
            if name in schema.get("properties", {}) or "additionalProperties" in schema:
                yield from dropped(_child(schema, name), item, f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from dropped(schema.get("items", {}), item, f"{path}[{index}]")


def refusals(schema: Json, value: Any) -> list[str]:
    """Return what the server finds wrong with `value` by its schema, CEL apart."""
    errors = jsonschema.Draft7Validator(schema).iter_errors(value)
    return [f"{error.json_path.removeprefix('$.')}: {error.message}" for error in errors] + list(
        _twice(schema, value)
    )


def broken_rules(schema: Json, value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of the object and the message of each CEL rule that `value` breaks."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if not rule_holds(rule["rule"], in_cel(schema, value)):
            yield path, rule["message"]
    if isinstance(value, dict):
        for name, item in value.items():
            yield from broken_rules(_child(schema, name), item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from broken_rules(schema.get("items", {}), item, f"{path}[{index}]")


def escaped(name: str) -> str:
    """Return the name by which CEL knows a field."""
    if CEL_WORDS.fullmatch(name):
        return f"__{name}__"
    return re.sub("__|[./-]", lambda found: CEL_ESCAPES[found[0]], name)


def in_cel(schema: Json, value: Any) -> Any:
    """Return `value` as CEL sees it: fields by their escaped names, numbers as the schema's types say.

    What the schema does not know is not there for CEL. Keys of maps are no fields: they stay as they are.
    """
    if isinstance(value, dict):
        known = schema.get("properties", {})
        fields = {escaped(name): in_cel(known[name], item) for name, item in value.items() if name in known}
        inside = schema.get("additionalProperties")
        return {name: in_cel(inside, item) for name, item in value.items()} if inside else fields
    if isinstance(value, list):
        return [in_cel(schema.get("items", {}), item) for item in value]
    return float(value) if schema.get("type") == "number" else value


def rule_holds(rule: str, value: Any) -> bool:
    """Evaluate one CEL rule on a value as CEL sees it; one that cannot be evaluated refuses, as on the server."""
    try:
        return bool(_compiled(rule).execute({"self": value}))
    except (RuntimeError, TypeError, ValueError):
        return False


@cache
def _compiled(rule: str) -> cel.Program:
    return cel.compile(rule)


def _child(schema: Json, name: str) -> Json:
    child: Json = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
    return child


def _twice(schema: Json, value: Any, path: str = "") -> Iterator[str]:
    """Yield the items of lists that are maps by a key which have the key of an earlier one."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _twice(_child(schema, name), item, f"{path}.{name}")
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        seen = (
            [tuple(item.get(key) for key in keys) for item in value if isinstance(item, dict)] if keys else []
        )
        if len(set(seen)) < len(seen):
            yield f"{path}: duplicate key in {seen}"
        for index, item in enumerate(value):
            yield from _twice(schema.get("items", {}), item, f"{path}[{index}]")
