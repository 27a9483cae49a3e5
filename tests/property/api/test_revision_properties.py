"""What holds for the hash of any revision."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.api.quantities import amount, canonical
from pilothouse.api.revision import revision_hash
from pilothouse.api.schema import structural
from pilothouse.api.spec import ModelDeploymentSpec
from tests.support import structural as server
from tests.support.spec_strategies import QUANTITIES, SPECS

SCHEMA = structural(ModelDeploymentSpec)


def hash_of(spec: Any) -> str:
    return revision_hash(ModelDeploymentSpec.model_validate_json(json.dumps(spec)))


def shuffled(value: Any) -> Any:
    """Return `value` with the keys of all maps in reverse."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(SPECS)
def test_a_hash_is_ten_hex_digits_and_knows_no_order_of_keys(spec: dict[str, Any]) -> None:
    assert re.fullmatch("[0-9a-f]{10}", hash_of(spec))
    assert hash_of(spec) == hash_of(shuffled(spec))


@given(SPECS)
def test_what_the_server_fills_in_changes_no_hash(spec: dict[str, Any]) -> None:
    assert hash_of(spec) == hash_of(server.defaulted(SCHEMA, spec))


@given(SPECS, SPECS)
def test_only_model_and_runtime_count(one: dict[str, Any], other: dict[str, Any]) -> None:
    both = {key: value for key, value in other.items() if key != "runtime"}
    both |= {key: one[key] for key in ("model", "runtime") if key in one}
    assert hash_of(one) == hash_of(both)


@given(QUANTITIES.map(str), QUANTITIES.map(str))
def test_quantities_have_one_canonical_form_for_each_amount(one: str, other: str) -> None:
    assert (canonical(one) == canonical(other)) == (amount(one) == amount(other))
    assert canonical(canonical(one)) == canonical(one)


@given(st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,8})?([KMGTPE]i|[numkMGTPE])?", fullmatch=True))
def test_no_amount_is_rounded(text: str) -> None:
    number = re.match(r"[0-9.]+", text)
    assert number
    assert amount(text) / amount("1" + text[number.end() :]) == amount(number[0])
