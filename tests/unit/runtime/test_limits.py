"""Limits of CPU and memory as containers see them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse_runtime.engine.limits import memory_limit, memory_used, usable_cpus

ALLOWED = len(os.sched_getaffinity(0))
MIB = 1024 * 1024
MACHINE = 4096 * MIB
NONE_V1 = 9223372036854771712  # as v1 says that there is no limit


class System:
    """A made-up /sys/fs/cgroup and /proc."""

    def __init__(self, folder: Path, own: str) -> None:
        self.root = folder / "cgroup"
        self.proc = folder / "proc"
        self.write(self.proc / "self/cgroup", own)
        self.write(
            self.proc / "meminfo", f"MemTotal: {MACHINE // 1024} kB\nMemAvailable: 1048576 kB\nHugePages: 0"
        )

    def write(self, path: Path, text: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def put(self, folder: str, **files: object) -> None:
        for name, text in files.items():
            self.write(self.root / folder / name.replace("__", "."), text)

    @property
    def cpus(self) -> int:
        return usable_cpus(self.root, self.proc)

    @property
    def memory(self) -> tuple[int, int]:
        return memory_limit(self.root, self.proc), memory_used(self.root, self.proc)


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("1", 1), ("50000", 1), ("100000", 1), ("100001", 2), ("150000", 2), ("100000000", 10**6)],
)
def test_cpu_quotas(tmp_path: Path, quota: str, cpus: int) -> None:
    second = System(tmp_path / "v2", "0::/")
    second.put("", cpu__max=f"{quota} 100000")
    assert second.cpus == min(cpus, ALLOWED)
    for mount in ("cpu", "cpu,cpuacct"):
        first = System(tmp_path / mount, "3:cpuacct,cpu:/")
        first.put(mount, cpu__cfs_quota_us=quota, cpu__cfs_period_us=100000)
        assert first.cpus == min(cpus, ALLOWED)


def test_no_limits(tmp_path: Path) -> None:
    system = System(tmp_path, "4:memory:/\n3:cpu:/\n0::/")
    assert system.cpus == ALLOWED
    assert system.memory == (MACHINE, MACHINE - 1024 * MIB)
    system.put("", cpu__max="max 100000", memory__max="max", memory__current=5 * MIB)
    system.put("cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    system.put("memory", memory__limit_in_bytes=NONE_V1, memory__usage_in_bytes=5 * MIB)
    assert system.cpus == ALLOWED
    assert system.memory == (MACHINE, MACHINE - 1024 * MIB)


def test_memory_of_a_container(tmp_path: Path) -> None:
    stat = f"anon {20 * MIB}\ninactive_file {10 * MIB}\nfile {15 * MIB}"
    second = System(tmp_path / "v2", "0::/")
    second.put("", memory__max=512 * MIB, memory__current=40 * MIB, memory__stat=stat)
    assert second.memory == (512 * MIB, 30 * MIB)
    first = System(tmp_path / "v1", "4:memory:/kubepods/pod1/abc")  # as the node sees it; its own is mounted
    stat += f"\ntotal_inactive_file {12 * MIB}"
    first.put("memory", memory__limit_in_bytes=512 * MIB, memory__usage_in_bytes=40 * MIB, memory__stat=stat)
    assert first.memory == (512 * MIB, 28 * MIB)


@pytest.mark.parametrize("own", ["0::/a/b", "0::/a/b/c/d"])
def test_limits_of_outer_cgroups_count(tmp_path: Path, own: str) -> None:
    system = System(tmp_path, own)
    system.put("a", memory__max=300 * MIB, memory__current=200 * MIB, cpu__max="50000 100000")
    system.put("a/b", memory__max=400 * MIB, memory__current=100 * MIB, cpu__max="max 100000")
    assert system.memory == (300 * MIB, 200 * MIB)
    assert system.cpus == 1


def test_other_processes_limits_do_not_count(tmp_path: Path) -> None:
    system = System(tmp_path, "4:memory:/mine\n2:pids:/other\n0::/../other")
    system.put("memory/other", memory__limit_in_bytes=MIB)
    system.put("unified", memory__max="max")
    system.put("other", memory__max=MIB)
    assert system.memory[0] == MACHINE
    system.put("memory/mine", memory__limit_in_bytes=7 * MIB, memory__usage_in_bytes=3 * MIB)
    assert system.memory == (7 * MIB, 3 * MIB)


def test_this_machine() -> None:
    assert 0 < memory_used() <= memory_limit()
    assert 1 <= usable_cpus() <= ALLOWED
