"""`python -m dev.images build|load`."""

import argparse
import sys

from dev import cluster
from dev.cluster import ClusterError
from dev.images.build import build
from dev.images.deliver import ensure
from dev.images.errors import ImageError
from dev.images.recipe import NAMES


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (1: not done, and standard error says why)."""
    parser = argparse.ArgumentParser(prog="python -m dev.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in {
        "build": "build what has changed",
        "load": "build what has changed and give it to the cluster that runs",
    }.items():
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--only", choices=NAMES, help="this image alone")
        if name == "load":
            command.add_argument("--tag", help="in place of the project's version")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "build":
            build(asked.only)
        else:
            for reference in ensure(_running(), only=asked.only, tag=asked.tag).values():
                print(reference)
    except (ImageError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _running() -> cluster.Cluster:
    found = cluster.status().cluster
    if found is None:
        raise ClusterError("no cluster runs: start one with `python -m dev.cluster up`")
    return found


if __name__ == "__main__":
    sys.exit(main())
