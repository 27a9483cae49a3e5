"""Whatever the operator writes into a status, the CRD keeps: what a schema does not know is dropped without a word."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pilothouse.api import crd
from pilothouse.api.conditions import Command, ConditionType, Outcome, Phase, Reason, RevisionState
from pilothouse.plan.samples import Drifted
from tests.support import structural
from tests.support.bad_specs import BLUE_GREEN, CANARY
from tests.support.played_pods import Fate, Kind
from tests.support.played_traffic import Temper
from tests.support.world import World, model, validated

SCHEMA = crd.legacy_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


async def replaced() -> list[dict[str, Any]]:
    """Return every status of a ModelDeployment whose new versions came up, or failed in one way or the other."""
    world = World()
    digest = f"sha256:{'0' * 64}"
    world.apply(model=model("1", digest=digest), replicas=2, rollout={"revisionHistoryLimit": 1})
    await world.settle()
    for version, fate in (
        ("2", Fate(Kind.CRASH, "boom")),
        ("3", Fate(Kind.UNSCHEDULABLE)),
        ("4", Fate(Kind.IMAGE_PULL_BACK_OFF, "manifest unknown")),
        ("5", Fate(Kind.QUOTA)),
        ("6", Fate()),
    ):
        spec = {"model": model(version), "replicas": 2, "rollout": {"progressDeadline": "1m"}}
        world.fate(world.revision(spec), fate)
        world.apply(**spec)
        await world.wait(20)
        if version != "3":  # which is replaced before its end
            await world.wait(600)
    world.apply(model=model("6"), replicas=0)
    await world.wait(600)
    world.apply(model={"uri": "ftp://nowhere"})
    await world.wait(60)
    return world.statuses


async def judged() -> list[dict[str, Any]]:
    """Return every status of a ModelDeployment whose new versions were validated, analysed, held and commanded."""
    world = World()
    canary = {**CANARY, "validation": BLUE_GREEN["validation"]}
    world.apply(model=model("1"), replicas=3)
    await world.settle()
    bad = world.apply(model=model("2"), replicas=3, rollout=canary)
    world.temper(bad, Temper(errors=0.5))
    await world.until(lambda: world.phase == Phase.FAILED)
    world.temper(bad, Temper())
    world.command("retry", bad)
    world.users.rate = 0.5
    await world.until(lambda: world.condition("Ready")["reason"] == Reason.ANALYSIS_INCONCLUSIVE)
    world.users.rate = 20.0
    await world.until(lambda: world.rollout.get("step") == 2)
    world.command("pause", bad)
    await world.wait(60)
    world.command("resume", bad)
    await world.until(lambda: world.condition("Ready")["reason"] == Reason.WAITING_FOR_PROMOTION)
    world.command("promote", bad)
    await world.until(lambda: world.phase == Phase.COMPLETE)
    world.apply(model=model("1"), replicas=3, rollout=CANARY)  # back, without steps
    await world.wait(600)
    good = world.apply(model=model("3"), replicas=3, rollout=BLUE_GREEN)
    await world.until(lambda: world.phase == Phase.AWAITING)
    world.command("abort", good)
    await world.wait(600)
    world.job_fate(world.apply(model=model("4"), replicas=3, rollout=BLUE_GREEN), validated(0.5))
    await world.wait(600)
    world.listener.drifted = Drifted(4096, {("input.x", "mean"): (0.3, 0.1)})
    world.apply(model=model("5"), runtime={"drift": {"uri": "file:///golden.npz"}})
    await world.wait(600)
    return world.statuses


def fields(value: Any, path: str = "") -> set[str]:
    """Return the paths of all fields in a value."""
    if isinstance(value, list):
        return {found for item in value for found in fields(item, path)}
    if not isinstance(value, dict):
        return {path}
    return {found for name, item in value.items() for found in fields(item, f"{path}.{name}")}


def fields_known(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths of all fields in a schema."""
    inside = schema.get("items", schema).get("properties")
    if inside is None:
        return {path}
    return {found for name, child in inside.items() for found in fields_known(child, f"{path}.{name}")}


async def test_the_schema_knows_every_status_that_the_operator_writes() -> None:
    statuses = [status for status in (*await replaced(), *await judged()) if status]
    for status in statuses:
        assert list(structural.dropped(SCHEMA, status)) == []
        assert structural.refusals(SCHEMA, status) == []
    entries = [entry for status in statuses for entry in status.get("revisions", ())]
    phases = {status["rollout"]["phase"] for status in statuses if "rollout" in status}
    assert {entry["state"] for entry in entries} == set(RevisionState)
    assert phases == set(Phase)
    assert {ended["outcome"] for status in statuses for ended in status.get("history", ())} == set(Outcome)
    assert {told["command"] for status in statuses for told in status.get("commands", ())} == set(Command)
    assert fields(statuses) == fields_known(SCHEMA)
    assert {c["type"] for status in statuses for c in status["conditions"]} == set(ConditionType)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Ready", "string"),
        ("Status", "string"),
        ("Version", "string"),
        ("Target", "string"),
        ("Weight", "integer"),
        ("Replicas", "string"),
        ("Age", "date"),
        ("URI", "string"),
        ("Message", "string"),
    ],
)
def test_the_columns_of_kubectl(name: str, kind: str) -> None:
    columns = crd.crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    column = next(column for column in columns if column["name"] == name)
    assert column.get("priority", 0) == (1 if name in ("Message", "URI") else 0)
    assert column["type"] == kind
    if column["jsonPath"].startswith(".status."):
        schema = SCHEMA
        for field in re.sub(r"\[.*\]", "", column["jsonPath"]).split(".")[2:]:
            schema = schema.get("items", schema)["properties"][field]


def test_the_columns_come_in_the_order_in_which_people_ask() -> None:
    columns = crd.crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"].upper() for column in columns] == [
        "READY",
        "STATUS",
        "VERSION",
        "TARGET",
        "WEIGHT",
        "REPLICAS",
        "AGE",
        "URI",
        "MESSAGE",
    ]


def test_the_server_fills_nothing_into_a_status_that_the_operator_wrote() -> None:
    """What it put in would differ from what the operator would write, and be written again for ever."""
    for written in ({"rollout": {}, "revisions": [{}], "conditions": []}, {"rollout": {"analysis": {}}}):
        assert structural.defaulted(SCHEMA, written) == written
