"""From the API server's JSON to a checked spec."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pilothouse.api.names import NAME_MAX_LENGTH, NAME_PATTERN
from pilothouse.api.problems import PATTERN_MEANINGS, InvalidSpec, Problem, told
from pilothouse.api.rules import matches, violations
from pilothouse.api.spec import ModelDeploymentSpec


def parse(body: dict[str, Any]) -> ModelDeploymentSpec:
    """Return the spec of a ModelDeployment, defaults filled in and every rule checked.

    A server that has the CRD has seen to most of it already, but one without CEL not to all of it.
    A null counts as a field left out, as it does for the API server.

    Raises:
        InvalidSpec: something breaks a rule; names every field concerned.
    """
    problems = list(_name_problems(str(body.get("metadata", {}).get("name", ""))))
    try:
        # Through JSON, where strict checking takes text for enums and lists for tuples, and still nothing else.
        spec = ModelDeploymentSpec.model_validate_json(json.dumps(_without_nulls(body.get("spec") or {})))
    except ValidationError as error:
        problems += [told(found) for found in error.errors(include_url=False)]
        raise InvalidSpec(tuple(problems)) from None
    problems += [Problem(field, rule.message) for field, rule in violations(spec, "spec")]
    if problems:
        raise InvalidSpec(tuple(problems))
    return spec


def _name_problems(name: str) -> Iterator[Problem]:
    if not matches(NAME_PATTERN, name):
        yield Problem("metadata.name", PATTERN_MEANINGS[NAME_PATTERN], f'"{name}"')
    if len(name) > NAME_MAX_LENGTH:
        message = f"must be at most {NAME_MAX_LENGTH} characters long: the names of its children are longer"
        yield Problem("metadata.name", message, f'"{name}"')


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
