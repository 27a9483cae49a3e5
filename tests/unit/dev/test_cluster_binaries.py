"""Where the programs of the embedded cluster are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.cluster import binaries
from dev.cluster.errors import ClusterError


def _succeed(work: Path) -> None:
    (work / "result").mkdir()
    (work / "result" / "program").write_text("whole")


def _fail(work: Path) -> None:
    (work / "result").mkdir()
    (work / "result" / "program").write_text("ha")
    raise ClusterError("the compiler ran out of memory")


def test_a_build_that_fails_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "kubernetes" / "key"
    with pytest.raises(ClusterError):
        binaries.make(target, _fail)
    assert list(target.parent.iterdir()) == []
    binaries.make(target, _succeed)
    assert (target / "program").read_text() == "whole"


def test_what_a_killed_build_left_is_removed_and_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    target = tmp_path / "kubernetes" / "key"
    (target.parent / ".work-killed" / "result").mkdir(parents=True)
    binaries.make(target, _succeed)
    assert list(target.parent.iterdir()) == [target]
    binaries.make(target, _fail)
    assert (target / "program").read_text() == "whole"


def test_programs_of_the_cluster_come_before_the_machine_s_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    programs = binaries.cached()
    directories = programs.path.split(":")
    assert directories[0] == str(programs.kubernetes)
    assert directories.index(f"{programs.debian}/usr/sbin") < directories.index("/usr/sbin")
    assert {tmp_path / "pilothouse"} == {programs.kubernetes.parents[1], programs.debian.parents[1]}
    assert not (tmp_path / "pilothouse").exists()
