"""`python -m dev.bench runtime`: our runtime against its peers. `python -m dev.bench render`: the page, drawn anew."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from dev.bench import page
from dev.bench.environments import EnvironmentFailedError
from dev.bench.runtime import MODELS, Choices, run
from dev.bench.settings import PEERS
from dev.cluster import ClusterError, debian
from dev.cluster.report import Report as Progress
from dev.shell import ROOT


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description="Benchmarks of Pilothouse.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_runtime(commands.add_parser("runtime", help="the runtime against its peers"))
    commands.add_parser("render", help="write docs/benchmarks.md anew from docs/benchmarks/*.json")
    options = parser.parse_args()
    if options.command == "render":
        page.write(page.FOLDER, page.PAGE)
        return 0
    progress = Progress()
    # A signal ends a run like ctrl-C does: through the contexts that stop what was started.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    try:
        debian.install_missing({"wrk": "wrk"}, progress)
        choices = Choices(
            options.models, options.peers, options.loads, options.rounds, options.quick, options.no_features
        )
        partly = options.quick or options.peers or options.loads
        folder = options.output or (ROOT / "build/bench" if partly else page.FOLDER)
        run(choices, folder, progress.say)
        if folder == page.FOLDER:
            page.write(folder, page.PAGE)
        progress.say(f"done; the figures are in {folder}")
    except (EnvironmentFailedError, ClusterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.say("stopped; every server is down")
        return 130
    return 0


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=(), metavar="MODEL", help=f"of {', '.join(MODELS)}"
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument(
        "--peers", nargs="+", choices=names, default=(), metavar="PEER", help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--loads", nargs="+", type=_positive, default=(), metavar="N", help="numbers of connections"
    )
    parser.add_argument("--rounds", type=_positive, help="default: 3, with --quick 1")
    parser.add_argument(
        "--quick", action="store_true", help="minutes: fewer settings, shorter; the page is left as it is"
    )
    parser.add_argument("--no-features", action="store_true", help="do not measure what each feature costs")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the figures; default: docs/benchmarks, or build/bench where only a part was asked for",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
