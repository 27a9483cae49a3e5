"""Pilothouse as it is installed for the end-to-end tests, and the ways to disturb it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dev import helm
from dev.cluster import Cluster, ClusterError
from dev.demo.manifests import image_values
from dev.shell import ROOT
from pilothouse.app import LEASE_NAME
from tests.support.kubectl import Kubectl, RefusedError
from tests.support.waiting import holds_for, until

SYSTEM = "pilothouse-system"
_RELEASE = "pilothouse"
_CHART = ROOT / "charts/pilothouse"
_OPERATOR = "app.kubernetes.io/component=operator"


@dataclass(frozen=True)
class System:
    """One installation of Pilothouse.

    Attributes:
        references: the references of its images, by name (operator, runtime, runtime-tensorflow).
    """

    cluster: Cluster
    references: dict[str, str]

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.cluster.kubeconfig, SYSTEM)

    def install(self, **values: Any) -> None:
        """Install or upgrade, and wait as Helm 4 does."""
        helm.install(
            _RELEASE,
            _CHART,
            namespace=SYSTEM,
            kubeconfig=self.cluster.kubeconfig,
            values={**image_values(self.references), **values},
        )

    def uninstall(self) -> None:
        helm.uninstall(_RELEASE, namespace=SYSTEM, kubeconfig=self.cluster.kubeconfig)

    def operator_pods(self) -> list[dict[str, Any]]:
        return self.kubectl.list("pods", "app.kubernetes.io/name=pilothouse")

    def kill_operator(self) -> None:
        """Kill the operator's process with SIGKILL; the kubelet starts it again, each time later (at most 300 s)."""
        restarts = self._restarts()
        self._kill()
        until(
            lambda: self._restarts() > restarts, seconds=330, what=lambda: f"restart: {self.operator_pods()}"
        )

    def crash_operator(self) -> None:
        """Kill the operator's process with SIGKILL, and let another pod take its place as soon as one can.

        The kubelet would start the same pod again later each time, and the Lease would be the dead one's for a while.
        """
        until(self._kill)
        self.kubectl("delete", "pods", "--selector", _OPERATOR, "--grace-period=0", "--force")
        self.kubectl("delete", "lease", LEASE_NAME, "--ignore-not-found")

    def outage(self, seconds: float) -> None:
        """Let time go by with the API server away, and make sure that it is."""

        def away() -> bool:
            try:
                self.kubectl("get", "--raw", "/version")
            except RefusedError:
                return True
            return False

        holds_for(away, seconds=seconds)

    def _kill(self) -> bool:
        """Kill the operator's process; return whether there was one."""
        try:
            # From inside the container its init process takes no SIGKILL, but from the node it does.
            self.cluster.execute(["pkill", "-KILL", "-f", "python.* -m pilothouse$"])
        except ClusterError:
            return False
        return True

    def _restarts(self) -> int:
        return sum(
            int(container["restartCount"])
            for pod in self.operator_pods()
            for container in pod.get("status", {}).get("containerStatuses", ())
        )
