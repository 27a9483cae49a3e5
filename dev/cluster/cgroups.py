"""The cgroup below which every pod of one cluster lives, in each hierarchy that the machine has mounted.

On cgroup v1 that is one directory per controller (a hybrid machine also has a cgroup2 mount without controllers), on
v2 it is one directory.
"""

import time
from pathlib import Path

from dev.cluster.errors import ClusterError


def hierarchies(mountinfo: str) -> list[Path]:
    """The mount points of every cgroup hierarchy in the text of /proc/PID/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        if source.split(" ")[0] in ("cgroup", "cgroup2"):
            found.append(Path(mount.split(" ")[4]))
    return found


def create(name: str) -> None:
    """Make the cgroup `name` at the top of every hierarchy.

    Raises:
        ClusterError: the machine has no cgroups, or does not let us make one.
    """
    tops = _hierarchies()
    if not tops:
        raise ClusterError(
            "no cgroup hierarchy is mounted: mount /sys/fs/cgroup (a container needs --privileged)"
        )
    try:
        for top in tops:
            (top / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ClusterError(f"cannot make cgroup {name}: {error}; a container needs --privileged") from error


def remove(name: str) -> None:
    """Remove the cgroup `name` and all below it; its processes must have been killed.

    Raises:
        ClusterError: a process is still in it after five seconds.
    """
    deadline = time.monotonic() + 5
    for top in _hierarchies():
        while (top / name).exists():
            try:
                for directory in sorted((top / name).rglob("*/"), key=lambda path: -len(path.parts)):
                    directory.rmdir()
                (top / name).rmdir()
            except OSError as error:  # the kernel is still taking leave of a killed process
                if time.monotonic() > deadline:
                    raise ClusterError(f"cannot remove cgroup {top / name}: {error}") from error
                time.sleep(0.02)


def _hierarchies() -> list[Path]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())
