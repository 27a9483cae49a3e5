"""docs/api-reference.md speaks of every field, default, word of the status and column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.api import crd, names
from pilothouse.api.conditions import ConditionType, Outcome, Phase, Reason, RevisionState

TEXT = (Path(__file__).resolve().parents[2] / "docs/api-reference.md").read_text()
QUOTED = set(re.findall(r"`([^`]+)`", TEXT))
SCHEMA = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the fields down to the second level, which is where the reference ends."""
    for name, child in schema["properties"].items():
        if "properties" in child and not path:
            yield from leaves(child, f"{name}.")
        else:
            yield f"{path}{name}", child


@pytest.mark.parametrize(
    ("field", "schema"), list(leaves(SCHEMA["spec"])), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_field_of_the_spec(field: str, schema: dict[str, Any]) -> None:
    assert field in QUOTED
    row = next(line for line in TEXT.splitlines() if line.startswith("|") and f"`{field}`" in line)
    if "default" in schema:
        assert str(schema["default"]) == row.split("|")[2].strip().strip("`")


def test_every_field_of_the_status() -> None:
    words = set(SCHEMA["status"]["properties"])
    for name in ("rollout", "revisions", "history"):
        child = SCHEMA["status"]["properties"][name]
        words |= set(child.get("items", child)["properties"])
    assert words - QUOTED == set()


def test_every_word_of_the_status() -> None:
    words = {str(word) for kind in (ConditionType, Reason, Phase, RevisionState, Outcome) for word in kind}
    assert words - QUOTED == set()


def test_columns_and_names() -> None:
    columns = crd.crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = {column["name"].upper() for column in columns if column["name"] not in ("Age", "Message")}
    assert shown - QUOTED == set()
    assert f"at most {names.NAME_MAX_LENGTH} characters" in TEXT
    assert {crd.CRD_FILE, crd.LEGACY_CRD_FILE} <= QUOTED
