"""`python -m dev.cluster up|down|status|env`."""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from dev.cluster import cluster, external
from dev.cluster.errors import ClusterError
from dev.cluster.layout import DEFAULT_NAME


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (1: not done, and standard error says why)."""
    parser = argparse.ArgumentParser(prog="python -m dev.cluster", description=__doc__)
    parser.add_argument(
        "--name", default=DEFAULT_NAME, help="which of this checkout's clusters (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the cluster, or what is missing of it")
    up.add_argument(
        "--control-plane-only", action="store_true", help="no node: the API, its controllers, no pods"
    )
    commands.add_parser("down", help="remove everything of the cluster")
    commands.add_parser("status", help="show what runs")
    commands.add_parser("env", help="print the shell commands that make kubectl use the cluster")
    chosen = parser.parse_args(arguments)
    try:
        match chosen.command:
            case "up":
                cluster.up(chosen.name, control_plane_only=chosen.control_plane_only)
            case "down":
                cluster.down(chosen.name)
            case "status":
                return _show(cluster.status(chosen.name))
            case "env":
                _print_environment(cluster.status(chosen.name))
    except (ClusterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _show(found: cluster.Status) -> int:
    if found.cluster is None:
        print(f"{found.identity}: not running")
        return 1
    kind = "embedded" if found.cluster.embedded else "named by KUBECONFIG"
    print(f"{found.identity}: {'running' if found.healthy else 'damaged: run up to heal it'} ({kind})")
    print(f"  kubeconfig    {found.cluster.kubeconfig}")
    print(f"  host address  {found.cluster.host_address}")
    for name, exit_status in sorted(found.components.items()):
        print(f"  {name:<24} {'running' if exit_status is None else f'ended with status {exit_status}'}")
    return 0 if found.healthy else 1


def _print_environment(found: cluster.Status) -> None:
    if found.cluster is None:
        raise ClusterError(f"{found.identity} is not running: start it with `python -m dev.cluster up`")
    print(f"export KUBECONFIG={shlex.quote(str(found.cluster.kubeconfig))}")
    print(f"export PILOTHOUSE_HOST_ADDRESS={shlex.quote(found.cluster.host_address)}")
    kubectl = external.kubectl()
    if shutil.which("kubectl") != kubectl:
        print(f'export PATH={shlex.quote(str(Path(kubectl).parent))}:"$PATH"')


if __name__ == "__main__":
    sys.exit(main())
