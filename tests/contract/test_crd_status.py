"""Whatever the operator writes into a status, the CRD keeps: what a schema does not know is dropped without a word."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pilothouse.api import crd
from pilothouse.api.conditions import ConditionType, Outcome, Phase, RevisionState
from tests.support import structural
from tests.support.played_nodes import Fate, Kind
from tests.support.world import World, model

SCHEMA = crd.legacy_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


async def lived_through() -> list[dict[str, Any]]:
    """Return every status of a ModelDeployment that has seen much."""
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


async def test_the_schema_knows_every_status_that_the_operator_writes() -> None:
    statuses = [status for status in await lived_through() if status]
    for status in statuses:
        assert list(structural.dropped(SCHEMA, status)) == []
        assert structural.refusals(SCHEMA, status) == []
    entries = [entry for status in statuses for entry in status.get("revisions", ())]
    phases = {status["rollout"]["phase"] for status in statuses if "rollout" in status}
    assert {entry["state"] for entry in entries} == set(RevisionState)
    assert phases == set(Phase)
    assert {ended["outcome"] for status in statuses for ended in status.get("history", ())} == set(Outcome)
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
