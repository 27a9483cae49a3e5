"""Clusters and namespaces for tests, taken down afterwards.

Where KUBECONFIG names a cluster, that one is used and left as it was. PILOTHOUSE_KEEP=1 keeps embedded ones, so that
the next run starts at once.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from dev.cluster import Cluster, down, external, up


@contextmanager
def control_plane(name: str = "tests") -> Iterator[Cluster]:
    """An API server and its controllers, without a node: pods stay pending."""
    with _started(name, control_plane_only=True) as cluster:
        yield cluster


@contextmanager
def node_cluster(name: str = "tests-node") -> Iterator[Cluster]:
    """A cluster with a node: pods run, and this machine reaches them and their Services."""
    with _started(name, control_plane_only=False) as cluster:
        yield cluster


@contextmanager
def namespace(cluster: Cluster, prefix: str = "test") -> Iterator[str]:
    """A namespace that no other test uses; its deletion is asked for, not waited for."""
    name = f"{prefix}-{uuid.uuid4().hex[:10]}"
    _kubectl(cluster, "create", "namespace", name)
    try:
        yield name
    finally:
        _kubectl(cluster, "delete", "namespace", name, "--wait=false", "--ignore-not-found")


@contextmanager
def _started(name: str, *, control_plane_only: bool) -> Iterator[Cluster]:
    try:
        yield up(name, control_plane_only=control_plane_only)
    finally:
        if os.environ.get("PILOTHOUSE_KEEP") != "1":
            down(name)


def _kubectl(cluster: Cluster, *arguments: str) -> None:
    done = subprocess.run(
        [external.kubectl(), f"--kubeconfig={cluster.kubeconfig}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
