"""What counts as a difference between a live object and what we would write."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.plan.compare import covers


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": 1, "status": {}}, {"a": 1}),
        ({}, {"env": [], "labels": {}, "value": "", "readOnly": False, "none": None}),
        ({"cpu": "1"}, {"cpu": "1000m"}),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}),
        ({"cpu": "2"}, {"cpu": 2}),
        ({"l": [{"n": 1, "default": True}]}, {"l": [{"n": 1}]}),
    ],
)
def test_same(live: Any, wanted: Any) -> None:
    assert covers(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": 1}, {"a": 2}),
        ({}, {"a": 1}),
        ({"a": "1"}, {"a": {"b": 1}}),
        ({"a": True}, {"a": 1}),
        ({"l": [1, 2]}, {"l": [1]}),
        ({"l": [1]}, {"l": [1, 2]}),
        ({"l": [2, 1]}, {"l": [1, 2]}),
        ({"replicas": 3}, {"replicas": 0}),
        ({"readOnly": True}, {"readOnly": False}),
        ({"cpu": "1"}, {"cpu": "100m"}),
        ({"a": None}, {"a": "x"}),
        ({"labels": {"a": "b"}}, {"labels": {}}),
    ],
)
def test_different(live: Any, wanted: Any) -> None:
    assert not covers(live, wanted)
