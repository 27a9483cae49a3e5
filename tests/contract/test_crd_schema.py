"""The CRD's schema against the table of bad specs, and against what Kubernetes wants of a structural schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.api import crd
from pilothouse.api.parse import parse
from pilothouse.api.problems import InvalidSpec
from tests.support import structural
from tests.support.bad_specs import (
    AUTOSCALING,
    BAD_SPECS,
    BLUE_GREEN,
    CANARY,
    NO_ROOM,
    BadSpec,
    Refused,
    good_model_deployment,
)

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
LEGACY_SCHEMA = crd.legacy_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"rollout": CANARY},
        {"rollout": BLUE_GREEN},
        {"rollout": NO_ROOM},
        {"autoscaling": AUTOSCALING},
        {"paused": True},
    ],
    ids=str,
)
def test_the_good_one_is_good(more: dict[str, Any]) -> None:
    body = good_model_deployment()
    body["spec"] |= more
    good = structural.defaulted(SCHEMA, body)
    assert structural.refusals(SCHEMA, good) == []
    assert list(structural.broken_rules(SCHEMA, good)) == []
    assert set(structural.dropped(SCHEMA, good)) == {".metadata.namespace"}  # metadata is the server's own
    assert parse(good).replicas == 2


@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.id)
def test_each_fault_is_refused_where_the_table_says(bad: BadSpec) -> None:
    given = bad.apply(good_model_deployment())
    stored = structural.defaulted(SCHEMA, given)
    refused = structural.refusals(SCHEMA, stored)
    broken = list(structural.broken_rules(SCHEMA, stored)) if not refused else []
    dropped = set(structural.dropped(SCHEMA, given)) - {".metadata.namespace"} if not refused else set()
    assert structural.refusals(LEGACY_SCHEMA, stored) == refused
    assert bool(refused) == (bad.refused is Refused.SCHEMA), refused
    assert bool(broken) == (bad.refused is Refused.CEL), broken
    assert bool(dropped) == (bad.refused is Refused.STRICT), dropped


@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.id)
def test_the_operator_refuses_each_fault_by_itself_and_names_the_field(bad: BadSpec) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(bad.apply(good_model_deployment()))
    assert {problem.field for problem in caught.value.problems} == {bad.field}
    assert bad.field in str(caught.value)


@pytest.mark.parametrize("bad", [b for b in BAD_SPECS if b.refused is Refused.CEL], ids=lambda bad: bad.id)
def test_cel_and_the_operator_say_the_same(bad: BadSpec) -> None:
    given = structural.defaulted(SCHEMA, bad.apply(good_model_deployment()))
    with pytest.raises(InvalidSpec) as caught:
        parse(given)
    said = {problem.message for problem in caught.value.problems}
    for path, message in structural.broken_rules(SCHEMA, given):
        assert bad.field.startswith(path.removeprefix("."))
        assert any(message.endswith(words) for words in said)


def test_there_are_enough_kinds_of_faults() -> None:
    assert len({bad.id for bad in BAD_SPECS}) == len(BAD_SPECS) >= 25


def test_every_node_is_structural() -> None:
    for path, node in nodes(SCHEMA):
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}], path
        else:
            assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
            assert not {"anyOf", "oneOf", "allOf", "not", "$ref"} & set(node), path
        assert not ("properties" in node and "additionalProperties" in node), path
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], path


def test_everything_in_the_spec_is_bounded() -> None:
    """The API server multiplies the bounds up to what a CEL rule may cost, and refuses what may cost too much."""
    for path, node in nodes(SCHEMA["properties"]["spec"]):
        if node.get("type") == "array":
            assert node["maxItems"] <= 64, path
        if "additionalProperties" in node:
            assert node["maxProperties"] <= 32, path
        if node.get("type") == "string" and "enum" not in node:
            assert node["maxLength"] <= 32768, path


def test_every_field_is_described_for_kubectl_explain() -> None:
    silent = [
        path
        for path, node in nodes(SCHEMA)
        if "description" not in node and path.startswith((".spec", ".status")) and not path.endswith("[]")
    ]
    # Parts of affinity are Kubernetes' own, and explained there.
    assert silent == [
        f".spec.runtime.affinity.{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")
    ]


def test_rules_hold_for_bare_defaults() -> None:
    """The API server tries the rules on a default as it stands, with nothing filled in, and refuses the CRD if not."""
    for path, node in nodes(SCHEMA):
        if "default" in node:
            assert list(structural.broken_rules(node, node["default"], path)) == []


def test_defaults_reach_every_depth() -> None:
    given = {"spec": {"model": {"uri": "file:///m.pt"}}}
    assert structural.defaulted(SCHEMA, given)["spec"] == {
        "model": {"uri": "file:///m.pt", "format": "auto"},
        "runtime": {"device": "auto", "terminationGracePeriodSeconds": 30},
        "replicas": 1,
        "rollout": {
            "strategy": "RollingUpdate",
            "autoPromote": True,
            "onFailure": "Rollback",
            "progressDeadline": "10m",
            "scaleDownDelay": "30s",
            "revisionHistoryLimit": 5,
        },
        "paused": False,
    }


def test_nothing_is_filled_into_the_items_of_lists() -> None:
    """Argo CD compares lists as a whole: what is filled in there would be somebody's change to it, for ever."""
    for path, node in nodes(SCHEMA["properties"]["spec"]):
        assert "[]" not in path or "default" not in node, path


def test_rules_speak_of_fields_that_are_there_by_the_names_that_cel_gives_them() -> None:
    """The API server compiles rules against the schema and refuses a CRD whose rules know a field too many."""
    for path, node in nodes(SCHEMA):
        for rule in node.get("x-kubernetes-validations", ()):
            for names in re.findall(r"\bself((?:\.\w+\b(?!\())+)", rule["rule"]):
                inner = node
                for name in names.removeprefix(".").split("."):
                    fields = {structural.escaped(field): field for field in inner.get("properties", {})}
                    assert name in fields, f"{path}: {rule['rule']}"
                    inner = inner["properties"][fields[name]]


def test_patterns_are_of_the_kind_that_go_knows() -> None:
    for path, node in nodes(SCHEMA):
        pattern = node.get("pattern", "")
        assert not re.search(r"\(\?[=!<]|\\[1-9ZAbB]", pattern), (
            path
        )  # RE2 has no lookaround, no back references


def test_the_files_are_what_the_models_say_and_small() -> None:
    for name, text in crd.rendered().items():
        assert (ROOT / name).read_text() == text, f"{name}: run `make generate`"
        assert len(text) < 100_000
    current = yaml.safe_load((ROOT / crd.CRD_FILE).read_text())
    legacy = yaml.safe_load((ROOT / crd.LEGACY_CRD_FILE).read_text())
    assert current == crd.crd()
    assert "x-kubernetes-validations" in str(current)
    assert "x-kubernetes-validations" not in str(legacy)
    assert structural.defaulted(LEGACY_SCHEMA, {"spec": {}}) == structural.defaulted(SCHEMA, {"spec": {}})
