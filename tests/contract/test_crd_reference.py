"""docs/api-reference.md speaks of every field, default, word of the status and column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.api import crd, names
from pilothouse.api.conditions import (
    Command,
    ConditionType,
    Outcome,
    Phase,
    Reason,
    RevisionState,
    Verdict,
)

TEXT = (Path(__file__).resolve().parents[2] / "docs/api-reference.md").read_text()
QUOTED = set(re.findall(r"`([^`]+)`", re.sub("```.*?```", "", TEXT, flags=re.DOTALL)))
SCHEMA = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


# Told in full; of model and runtime, what is in their fields is told beside them, or known from a pod.
DEEP = ("autoscaling", "rollout")


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the fields that have a row: down to the second level, and of some all."""
    for name, child in schema["properties"].items():
        where = f"{path}{name}"
        deep = where.startswith(DEEP)
        inside = child.get("items", {}) if deep else {}
        if "properties" in child and (not path or deep):
            if path:
                yield where, child
            yield from leaves(child, f"{where}.")
        else:
            yield where, child
        if "properties" in inside:
            yield from leaves(inside, f"{where}[].")


@pytest.mark.parametrize(
    ("field", "schema"), list(leaves(SCHEMA["spec"])), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_field_of_the_spec(field: str, schema: dict[str, Any]) -> None:
    assert field in QUOTED
    row = next(line for line in TEXT.splitlines() if line.startswith("|") and f"`{field}`" in line)
    if "default" in schema and schema["default"] != {}:
        default = schema["default"]
        text = default if isinstance(default, str) else json.dumps(default)
        assert text == row.split("|")[2].strip().strip("`")
    if field.startswith(DEEP):
        assert set(schema.get("enum", ())) - QUOTED == set()


def test_every_field_of_the_status() -> None:
    def fields(schema: dict[str, Any]) -> Iterator[str]:
        for name, child in schema.get("items", schema).get("properties", {}).items():
            yield name
            if name != "conditions":  # whose fields are metav1.Condition's
                yield from fields(child)

    assert set(fields(SCHEMA["status"])) - QUOTED == set()


def test_every_word_of_the_status() -> None:
    kinds = (ConditionType, Reason, Phase, RevisionState, Outcome, Verdict)
    assert {str(word) for kind in kinds for word in kind} - QUOTED == set()


def test_every_command() -> None:
    assert {f"{names.command_annotation(command)}=<revision>" for command in Command} - QUOTED == set()


def test_columns_and_names() -> None:
    columns = crd.crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = {column["name"].upper() for column in columns if column["name"] not in ("Age", "Message")}
    assert shown - QUOTED == set()
    assert f"at most {names.NAME_MAX_LENGTH} characters" in TEXT
    assert {crd.CRD_FILE, crd.LEGACY_CRD_FILE} <= QUOTED
