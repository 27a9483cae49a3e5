"""A real Kubernetes cluster on one Debian machine, in namespaces of its own; see docs/embedded-cluster.md."""

from dev.cluster.cluster import Cluster, Status, down, status, up
from dev.cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError", "Status", "down", "status", "up"]
