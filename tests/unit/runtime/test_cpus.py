"""CPU limits as containers see them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse_runtime.engine.cpus import usable_cpus

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("50000", 1), ("100000", 1), ("100001", 2), ("150000", 2), ("100000000", 10**6)],
)
def test_quotas(tmp_path: Path, quota: str, cpus: int) -> None:
    second = tmp_path / "v2"
    second.mkdir()
    (second / "cpu.max").write_text(f"{quota} 100000\n")
    assert usable_cpus(second) == min(cpus, ALLOWED)
    for name in ("cpu", "cpu,cpuacct"):
        first = tmp_path / f"v1 {name}"
        (first / name).mkdir(parents=True)
        (first / name / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (first / name / "cpu.cfs_period_us").write_text("100000\n")
        assert usable_cpus(first) == min(cpus, ALLOWED)


def test_no_limit(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == ALLOWED
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == ALLOWED
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == ALLOWED
