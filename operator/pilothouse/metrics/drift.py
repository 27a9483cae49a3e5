"""Reads what a runtime pod tells of drift in its metrics. A pod runs a user's image, so its page may say anything."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pilothouse.plan.samples import Drifted
from pilothouse_runtime import contract

_MOST_LINES: Final = 2000
_MOST_ROWS: Final = 2.0**53


def read_drift(page: bytes) -> Drifted | None:
    """Return what a page says of drift; None where it says nothing, or nothing that can be read."""
    columns: dict[tuple[str, str], dict[str, float]] = {}
    rows = 0.0
    try:
        for sample in _samples(page):
            if sample.name == contract.METRIC_DRIFT_ROWS:
                rows = sample.value if 0 <= sample.value <= _MOST_ROWS else 0.0
            elif sample.value >= 0 and isfinite(sample.value):
                column = (sample.labels.get("tensor", ""), sample.labels.get("column", ""))
                columns.setdefault(column, {})[sample.name] = sample.value
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # see `exposition`: the parser trips over odd pages in all these ways
    pairs = {
        column: (told[contract.METRIC_DRIFT], told[contract.METRIC_DRIFT_THRESHOLD])
        for column, told in columns.items()
        if told.keys() == {contract.METRIC_DRIFT, contract.METRIC_DRIFT_THRESHOLD}
        and told[contract.METRIC_DRIFT_THRESHOLD] > 0
    }
    return Drifted(int(rows), pairs) if pairs else None


def _samples(page: bytes) -> Iterator[Sample]:
    lines = [line for line in page.decode().split("\n") if line.startswith(contract.METRIC_DRIFT)]
    for family in text_string_to_metric_families("\n".join(lines[:_MOST_LINES]) + "\n"):
        yield from family.samples
