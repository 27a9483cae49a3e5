"""What the embedded cluster reads about the machine, and what it says when the machine will not do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dev.cluster.cgroups import hierarchies
from dev.cluster.privileges import missing_capabilities

HYBRID = """\
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
UNIFIED = "29 23 0:25 / /sys/fs/cgroup rw,nosuid,nodev shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        (HYBRID, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]),
        (UNIFIED, ["/sys/fs/cgroup"]),
        ("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n", []),
    ],
)
def test_every_cgroup_hierarchy_is_found(mountinfo: str, expected: list[str]) -> None:
    assert hierarchies(mountinfo) == [Path(path) for path in expected]


@pytest.mark.parametrize(
    ("effective", "missing"),
    [
        ("000001ffffffffff", []),
        ("000001fffeffffff", []),
        ("00000000a80425fb", ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        ("0000000000201000", []),
    ],
)
def test_missing_capabilities_are_named(effective: str, missing: list[str]) -> None:
    assert missing_capabilities(f"Name:\tpython\nCapEff:\t{effective}\nSeccomp:\t0\n") == missing


def _run(*prefix: str, command: str = "up", **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return subprocess.run(
        [*prefix, sys.executable, "-m", "dev.cluster", "--name=never-started", command],
        env={**kept, **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )


def test_whoever_is_not_root_is_told_all_that_is_missing(tmp_path: Path) -> None:
    # A user namespace without a mapping makes anyone an ordinary user.
    done = _run("unshare", "--user", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "you are user" in done.stderr
    assert "sudo" in done.stderr
    assert "etcd-server" in done.stderr
    assert "Kubernetes 1.20.2 (built from Debian's source package" in done.stderr
    assert "KUBECONFIG" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_kubeconfig_whose_cluster_does_not_answer_is_an_error_and_not_a_reason_to_start_one(
    tmp_path: Path,
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        """\
apiVersion: v1
kind: Config
current-context: x
clusters: [{name: x, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: x, context: {cluster: x, user: x}}]
users: [{name: x, user: {token: hidden-token}}]
"""
    )
    for command in ("up", "status", "env"):
        done = _run(command=command, KUBECONFIG=str(kubeconfig))
        assert done.returncode == 1
        assert f"KUBECONFIG names {kubeconfig}" in done.stderr
        assert "unset KUBECONFIG" in done.stderr
        assert "hidden-token" not in done.stderr


def test_env_of_a_cluster_that_does_not_run_prints_nothing_that_a_shell_would_evaluate() -> None:
    done = _run(command="env")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "is not running" in done.stderr
