"""Plays controllers, the scheduler and the kubelet on a `MemoryCluster`, one step at a time.

What becomes of the pods of a revision is written down beforehand as a `Fate`. The statuses are shaped as
Kubernetes writes them (apps/v1 DeploymentStatus; `tests.support.played_pods` for the pods).
"""

from __future__ import annotations

import hashlib
import json

from pilothouse.plan.seen import Json
from tests.support.memory_cluster import MemoryCluster, Ref
from tests.support.memory_merge import timestamp
from tests.support.played_endpoints import PlayedEndpoints
from tests.support.played_jobs import PlayedJobs
from tests.support.played_pods import Fate, Kind, condition, is_ready, next_status

__all__ = ["Fate", "Kind", "PlayedNodes"]


class PlayedNodes:
    """The controllers and nodes of a `MemoryCluster`.

    Attributes:
        fates: fate of the pods by revision (that is, by Deployment) name; `default` where there is none.
            It may change at any time: ready pods may begin to crash and broken ones may recover.
        own_fates: fates of single pods by name, which count more than that of their revision.
        jobs: the same for Jobs, which end well unless something else is written down.
        endpoints: what tells nodes of the pods behind Services.
    """

    def __init__(self, cluster: MemoryCluster, default: Fate | None = None) -> None:
        self.cluster = cluster
        self.default = default or Fate()
        self.fates: dict[str, Fate] = {}
        self.own_fates: dict[str, Fate] = {}
        self.endpoints = PlayedEndpoints(cluster)
        self.jobs = PlayedJobs(cluster, Fate(Kind.DONE))
        self._pods_made = 0

    def settle(self, rounds: int = 20) -> None:
        """Step until only time or somebody else can change anything."""
        for _ in range(rounds):
            if not self.step():
                return

    def step(self, pods: int | None = None) -> bool:
        """Look at every Deployment, move at most `pods` pods one step on; return whether anything changed."""
        before = {ref: body["metadata"]["resourceVersion"] for ref, body in self.cluster.objects.items()}
        self.cluster.collect_garbage()
        for ref in self._refs("Deployment"):
            self._scale(ref)
        for ref in self._refs("Pod")[:pods]:
            self._advance(ref)
        for ref in self._refs("Deployment"):
            self._report(ref)
        self.jobs.step()
        self.endpoints.step()
        after = {ref: body["metadata"]["resourceVersion"] for ref, body in self.cluster.objects.items()}
        return before != after

    def pods(self, revision: str) -> list[Json]:
        """Return the pods of one revision that are not being deleted, sorted by name."""
        found = (self.cluster.objects[ref] for ref in self._refs("Pod"))
        return [
            pod
            for pod in found
            if pod["metadata"]["annotations"].get("deployment") == revision
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def _refs(self, kind: str) -> list[Ref]:
        return sorted(ref for ref in self.cluster.objects if ref.kind == kind)

    def _fate(self, revision: str) -> Fate:
        return self.fates.get(revision, self.default)

    # The deployment controller (with its ReplicaSet left out).

    def _scale(self, ref: Ref) -> None:
        deployment = self.cluster.objects[ref]
        template = deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        present = self.pods(ref.name)
        fresh = [pod for pod in present if pod["metadata"]["labels"]["pod-template-hash"] == digest]
        for pod in present:
            if pod not in fresh:
                self._terminate(pod)
        excess = len(fresh) - deployment["spec"]["replicas"]
        for pod in sorted(fresh, key=is_ready)[: max(excess, 0)]:
            self._terminate(pod)
        if self._fate(ref.name).kind is not Kind.QUOTA:
            for _ in range(-excess):
                self._create_pod(deployment, digest)

    def _create_pod(self, deployment: Json, digest: str) -> None:
        self._pods_made += 1
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        replica_set = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{meta['name']}-{digest}"}
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{meta['name']}-{digest}-{self._pods_made:05d}",
                    "namespace": meta["namespace"],
                    "labels": {**template["metadata"]["labels"], "pod-template-hash": digest},
                    "annotations": {"deployment": meta["name"], "address": _address(self._pods_made)},
                    # There are no ReplicaSets here: the Deployment's own uid lets the collector do its work.
                    "ownerReferences": [{**replica_set, "uid": meta["uid"], "controller": True}],
                },
                "spec": template["spec"],
            }
        )

    def _terminate(self, pod: Json) -> None:
        ref = Ref("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.cluster.edit(
            ref, lambda body: body["metadata"].update(deletionTimestamp=timestamp(self.cluster.now()))
        )

    def _report(self, ref: Ref) -> None:
        deployment = self.cluster.objects[ref]
        pods = self.pods(ref.name)
        ready, wanted = sum(map(is_ready, pods)), deployment["spec"]["replicas"]
        conditions = [condition("Available", ready >= wanted, "MinimumReplicas")]
        if self._fate(ref.name).kind is Kind.QUOTA and len(pods) < wanted:
            limits = "requested: pods=1, used: pods=1, limited: pods=1"
            text = f'pods "{ref.name}-x" is forbidden: exceeded quota: q, {limits}'
            conditions.append(condition("ReplicaFailure", True, "FailedCreate", text))
        counts = {
            "replicas": len(pods),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(wanted - ready, 0),
        }
        status = {field: count for field, count in counts.items() if count}  # Go's omitempty
        status |= {"observedGeneration": deployment["metadata"]["generation"], "conditions": conditions}
        self._set_status(ref, status)

    # The scheduler and the kubelet.

    def _advance(self, ref: Ref) -> None:
        pod = self.cluster.objects[ref]
        if "deletionTimestamp" in pod["metadata"]:
            self.cluster.delete(ref)
            return
        if "deployment" in pod["metadata"]["annotations"]:
            fate = self.own_fates.get(ref.name) or self._fate(pod["metadata"]["annotations"]["deployment"])
            self._set_status(ref, next_status(pod, fate))

    def _set_status(self, ref: Ref, status: Json) -> None:
        if self.cluster.objects[ref].get("status") != status:
            self.cluster.set_status(ref, status)


def _address(number: int) -> str:
    return f"10.244.{number // 250}.{number % 250 + 1}"
