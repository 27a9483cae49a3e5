"""A rule says the same in CEL (to the API server) and in Python (in the operator), for whatever the schema takes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings

from pilothouse.api.rules import SpecModel, violations
from pilothouse.api.schema import structural
from pilothouse.api.spec import ModelDeploymentSpec
from tests.support import structural as server
from tests.support.spec_strategies import SPECS

SCHEMA = structural(ModelDeploymentSpec)


def python_findings(spec: SpecModel) -> set[tuple[str, str]]:
    """Return object paths and messages of the rules with a CEL side that `spec` breaks, by the Python side."""
    found = set()
    for field, rule in violations(spec, ""):
        if rule.cel is not None:
            found.add((field.removesuffix(f".{rule.field}") if rule.field else field, rule.text))
    return found


@given(SPECS)
@settings(max_examples=500)
def test_each_rule_gives_the_same_verdict_on_both_sides(spec: dict[str, Any]) -> None:
    stored = server.defaulted(SCHEMA, spec)
    assert server.refusals(SCHEMA, stored) == []
    model = ModelDeploymentSpec.model_validate_json(json.dumps(spec))
    assert python_findings(model) == set(server.broken_rules(SCHEMA, stored))


@given(SPECS)
def test_the_server_s_defaults_are_the_operator_s(spec: dict[str, Any]) -> None:
    stored = server.defaulted(SCHEMA, spec)
    given_, filled = (ModelDeploymentSpec.model_validate_json(json.dumps(s)) for s in (spec, stored))
    assert given_ == filled
    assert (
        list(server.dropped(SCHEMA, given_.model_dump(mode="json", by_alias=True, exclude_none=True))) == []
    )
