"""What every example leaves beside its models: report.json, how good each model is offline and which digest it has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pilothouse_runtime.digests import digest_of

Facts = dict[str, float | str]


def write(out: Path, measured: Mapping[str, Mapping[str, float]]) -> dict[str, Facts]:
    """Write report.json into `out` and return what it says.

    Args:
        measured: for each model, by the name of its file or folder in `out`, what was measured offline.
    """
    report: dict[str, Facts] = {
        name: {**figures, "digest": digest_of(out / name)} for name, figures in measured.items()
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def told(out: Path, report: Mapping[str, Facts]) -> str:
    """Return a report as lines for people."""
    lines = []
    for name, facts in report.items():
        figures = [
            f"{key} {value:.4g}" if isinstance(value, float) else value for key, value in facts.items()
        ]
        lines.append(f"{out / name}: {', '.join(figures)}")
    return "\n".join(lines)
