"""How many CPUs this container may use, so that a pod with a small limit does not spin many threads.

Sources: Linux, "Control Group v2" (cpu.max) and "CFS Bandwidth Control" (cpu.cfs_quota_us, v1).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


def usable_cpus(root: Path = CGROUP_ROOT) -> int:
    """Return the CPUs that the scheduler and the cgroup's quota leave to this process, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota_v2(root) or _quota_v1(root / "cpu") or _quota_v1(root / "cpu,cpuacct")
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota_v2(root: Path) -> float | None:
    words = _read(root / "cpu.max").split()  # "200000 100000", or "max 100000" without a limit
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None  # -1 without a limit


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
