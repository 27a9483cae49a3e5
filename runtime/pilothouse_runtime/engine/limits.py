"""What this container may use: CPUs, so that a pod with a small limit does not spin many threads, and memory.

Sources: Linux, "Control Group v2" (cpu.max, memory.max), "CFS Bandwidth Control" and "Memory Resource Controller" (v1);
cgroups(7) on /proc/self/cgroup; Kubernetes, "Node-pressure Eviction" on the working set.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
PROC: Final = Path("/proc")
# Where the hierarchies are mounted, under the root: v2 alone or beside v1, v1 by its controllers.
_V2: Final = ("", "unified")
_CPU: Final = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
_MEMORY: Final = ("memory",)


def usable_cpus(root: Path = CGROUP_ROOT, proc: Path = PROC) -> int:
    """Return the CPUs that the scheduler and the cgroups' quotas leave to this process, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [_quota_v2(folder) for folder in _folders(root, proc, "", _V2)]
    quotas += [_quota_v1(folder) for folder in _folders(root, proc, "cpu", _CPU)]
    return max(1, math.ceil(min(allowed, *quotas)))


def memory_limit(root: Path = CGROUP_ROOT, proc: Path = PROC) -> int:
    """Return the bytes that this process and those of its cgroup may use together: a limit's, or the machine's."""
    return _tightest(root, proc)[0]


def memory_used(root: Path = CGROUP_ROOT, proc: Path = PROC) -> int:
    """Return the bytes in use of what `memory_limit` allows, without files that can be read again (the working set)."""
    _, folder = _tightest(root, proc)
    if folder is None:
        machine = _table(proc / "meminfo")
        return 1024 * (machine["MemTotal:"] - machine["MemAvailable:"])
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    stat = _table(folder / "memory.stat")
    # v1 has the sum over inner cgroups under another name, v2 has no other.
    return max(0, used - stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _tightest(root: Path, proc: Path) -> tuple[int, Path | None]:
    """Return the smallest limit in bytes and the cgroup that has it; None is the machine itself."""
    limits: list[tuple[int, Path | None]] = [(1024 * _table(proc / "meminfo")["MemTotal:"], None)]
    for folder in (*_folders(root, proc, "", _V2), *_folders(root, proc, "memory", _MEMORY)):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is not None:  # v1 says "none" with a number beyond any machine
            limits.append((limit, folder))
    return min(limits, key=lambda pair: pair[0])


def _folders(root: Path, proc: Path, controller: str, mounts: tuple[str, ...]) -> Iterator[Path]:
    """Yield the cgroups that this process is in, from its own up to what is mounted: each may have a limit.

    Without a namespace of cgroups, the path that /proc tells is the node's. In a container its parts need not exist
    then, as the container's own cgroup is mounted in the root's place. Reading what is not there gives no limit.

    Args:
        controller: of v1, or "" for v2.
    """
    path = Path()
    for line in _read(proc / "self/cgroup").splitlines():  # "4:memory:/kubepods/pod1", "0::/kubepods/pod1"
        _, controllers, told = line.split(":", 2)
        if controller in controllers.split(","):
            path = Path(told.lstrip("/"))
    if ".." in path.parts:  # it lies outside of the namespace
        path = Path()
    for mount in mounts:
        for level in (path, *path.parents):
            yield root / mount / level


def _quota_v2(folder: Path) -> float:
    words = _read(folder / "cpu.max").split()  # "200000 100000", or "max 100000" without a limit
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else math.inf


def _quota_v1(folder: Path) -> float:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else math.inf  # -1 without a limit


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, or "max"."""
    text = _read(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Return the lines of a file that are a name, a number and perhaps a unit."""
    lines = (line.split() for line in _read(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
