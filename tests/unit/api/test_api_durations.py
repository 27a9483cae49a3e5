"""Durations and quantities as Kubernetes writes them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pilothouse.api import durations
from pilothouse.api.durations import seconds
from pilothouse.api.quantities import amount, canonical


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1h1m1s1ms", 3661.001),
        ("0s", 0),
    ],
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "10", "-5m", "5 m", "m", "1d", "1h30", "10m\n", "\uff11m", "+1s", "1.s", ".5s"]
)
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2ms", "2ms"),
        ("0.002s", "2ms"),
        ("0s", "0ms"),
        ("0.5ms", "0.5ms"),
        ("1h30m", "5400000ms"),
        ("0.0000000000000000000000000001h", "0.00000000000000000000036ms"),
    ],
)
def test_canonical_durations_are_exact(text: str, expected: str) -> None:
    assert durations.canonical(text) == expected
    assert durations.canonical(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        ("1.5Gi", "1610612736"),
        ("1e3", "1000"),
        ("1k", "1000"),
        ("100n", "1E-7"),
        ("0", "0"),
    ],
)
def test_amount(text: str, expected: str) -> None:
    assert amount(text) == Decimal(expected)


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "1gi", "Gi", "1K", "1e100", "0x1", "1Gi\n", ".5"])
def test_what_is_no_quantity_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as"):
        amount(text)


def test_canonical_amounts_are_plain_digits() -> None:
    assert [canonical(text) for text in ("1000m", "1e3", "1Ki", "0.10", "5u")] == [
        "1",
        "1000",
        "1024",
        "0.1",
        "0.000005",
    ]
