"""Records real rollouts and draws them: `python -m dev.rollouts record [NAME ...]`, `python -m dev.rollouts draw`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from dev import cluster as clusters
from dev import helm, images
from dev.rollouts.drawing import draw
from dev.rollouts.recording import read
from dev.rollouts.scenarios import SCENARIOS
from dev.rollouts.stage import Performance, StageError, Theatre, train
from dev.shell import ROOT, CommandFailedError

FOLDER = ROOT / "docs/rollouts"


def record(names: list[str], folder: Path) -> None:
    """Play the scenarios with these names in a cluster and write a recording of each.

    Raises:
        StageError, CommandFailedError, ClusterError, ImageError, HelmError: something was not as it should be.
    """
    was_there = clusters.status().cluster is not None
    with tempfile.TemporaryDirectory(prefix="pilothouse-rollouts-") as models:
        train(Path(models))
        theatre = Theatre(clusters.up(), Path(models))
        try:
            theatre.put_up()
            for scenario in SCENARIOS:
                if scenario.name in names:
                    print(f"==> {scenario.title}", flush=True)
                    try:
                        Performance(theatre, scenario).record(folder / f"{scenario.name}.jsonl")
                    finally:
                        theatre.clear()
        finally:
            if os.environ.get("KEEP") != "1":
                if was_there:
                    theatre.take_down()
                else:
                    clusters.down()


def draw_all(folder: Path) -> None:
    """Draw each recording in a folder, beside it."""
    for file in sorted(folder.glob("*.jsonl")):
        file.with_suffix(".svg").write_text(draw(read(file)))


def main() -> int:
    """Record, or draw what was recorded."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        prog="python -m dev.rollouts", description="Record real rollouts and draw them."
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: docs/rollouts")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="play rollouts in a cluster, write them down, draw them")
    recording.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all")
    commands.add_parser("draw", help="draw anew what was recorded")
    options = parser.parse_args()
    unknown = set(getattr(options, "names", ())) - set(names)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; known are: {', '.join(names)}")
    try:
        if options.command == "record":
            options.folder.mkdir(parents=True, exist_ok=True)
            record(options.names or names, options.folder)
        draw_all(options.folder)
    except (
        clusters.ClusterError,
        CommandFailedError,
        StageError,
        ValueError,
        images.ImageError,
        helm.HelmError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
