"""Which ModelDeployment an event is about."""

from __future__ import annotations

import pytest

from pilothouse.api import names
from pilothouse.edge.mapping import key_of
from pilothouse.plan.seen import Json, Key


def body(kind: str = "Deployment", api_version: str = "apps/v1", labels: Json | None = None) -> Json:
    meta: Json = {"namespace": "vision", "name": "digits-0123456789"}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": meta | ({"labels": labels} if labels else {}),
    }


def test_a_model_is_itself() -> None:
    assert key_of(body(names.KIND, names.API_VERSION)) == Key("vision", "digits-0123456789")


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_a_child_is_told_by_its_labels(kind: str) -> None:
    assert key_of(body(kind, labels=names.child_labels("digits", "digits-0123456789"))) == Key(
        "vision", "digits"
    )


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {"app": "x"},
        {names.LABEL_MODEL: "digits"},
        {names.LABEL_MANAGED_BY: "Helm", names.LABEL_MODEL: "digits"},
        {names.LABEL_MANAGED_BY: names.MANAGED_BY},
        {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_MODEL: ""},
    ],
)
def test_others_are_nobodys(labels: Json | None) -> None:
    assert key_of(body(labels=labels)) is None


def test_the_same_kind_of_another_group_is_not_ours() -> None:
    assert key_of(body(names.KIND, "other.dev/v1")) is None
