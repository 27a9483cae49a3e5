"""Plays the deployment controller, the scheduler and the kubelet on a `MemoryCluster`, one step at a time.

What becomes of the pods of a revision is written down beforehand as a `Fate`. The statuses are shaped as
Kubernetes writes them (core/v1 PodStatus, apps/v1 DeploymentStatus).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.plan.seen import Json
from tests.support.memory_cluster import MemoryCluster, Ref
from tests.support.memory_merge import timestamp

# A crash loop goes on for ever; it is played until nobody learns anything new from it.
_RESTARTS_PLAYED = 6


class Kind(StrEnum):
    """What can become of a pod."""

    READY = "ready"
    RUNNING = "running"  # starts, and never becomes ready
    PENDING = "pending"  # scheduled, and nothing more happens
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL_BACK_OFF = "image"
    CRASH = "crash"  # `message` is its termination message
    OUT_OF_MEMORY = "oom"
    QUOTA = "quota"  # it cannot even be created


@dataclass(frozen=True)
class Fate:
    """What becomes of the pods of one revision."""

    kind: Kind = Kind.READY
    message: str = ""


class PlayedNodes:
    """The controllers and nodes of a `MemoryCluster`.

    Attributes:
        fates: fate of the pods by revision (that is, by Deployment) name; `default` where there is none.
            It may change at any time: ready pods may begin to crash and broken ones may recover.
    """

    def __init__(self, cluster: MemoryCluster, default: Fate = Fate()) -> None:
        self.cluster = cluster
        self.default = default
        self.fates: dict[str, Fate] = {}
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
        after = {ref: body["metadata"]["resourceVersion"] for ref, body in self.cluster.objects.items()}
        return before != after

    def pods(self, revision: str) -> list[Json]:
        """Return the pods of one revision that are not being deleted, sorted by name."""
        found = (self.cluster.objects[ref] for ref in self._refs("Pod"))
        return [
            pod
            for pod in found
            if pod["metadata"]["annotations"]["deployment"] == revision
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
        for pod in sorted(fresh, key=_is_ready)[: max(excess, 0)]:
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
                    "annotations": {"deployment": meta["name"]},
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
        ready, wanted = sum(map(_is_ready, pods)), deployment["spec"]["replicas"]
        conditions = [_condition("Available", ready >= wanted, "MinimumReplicas")]
        if self._fate(ref.name).kind is Kind.QUOTA and len(pods) < wanted:
            limits = "requested: pods=1, used: pods=1, limited: pods=1"
            text = f'pods "{ref.name}-x" is forbidden: exceeded quota: q, {limits}'
            conditions.append(_condition("ReplicaFailure", True, "FailedCreate", text))
        counts = {
            "replicas": len(pods),
            "updatedReplicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(wanted - ready, 0),
        }
        status = {field: count for field, count in counts.items() if count}  # Go's omitempty
        status |= {"observedGeneration": deployment["metadata"]["generation"], "conditions": conditions}
        self.cluster.set_status(ref, status)

    # The scheduler and the kubelet.

    def _advance(self, ref: Ref) -> None:
        pod = self.cluster.get(ref)
        assert pod is not None
        if "deletionTimestamp" in pod["metadata"]:
            self.cluster.delete(ref)
            return
        status = self._next_status(pod, self._fate(pod["metadata"]["annotations"]["deployment"]))
        self.cluster.set_status(ref, status)

    def _next_status(self, pod: Json, fate: Fate) -> Json:
        old: Json = pod.get("status", {})
        if fate.kind is Kind.UNSCHEDULABLE and "PodScheduled" not in _true(old):
            text = fate.message or "0/1 nodes are available: 1 Insufficient cpu."
            return {
                "phase": "Pending",
                "conditions": [_condition("PodScheduled", False, "Unschedulable", text)],
            }
        if "PodScheduled" not in _true(old):
            return _status("Pending", ready=False)
        container = pod["spec"]["containers"][0]
        restarts = sum(c["restartCount"] for c in old.get("containerStatuses", ()))
        running = {
            "name": container["name"],
            "image": container["image"],
            "restartCount": restarts,
            "ready": False,
        }
        match fate.kind:
            case Kind.IMAGE_PULL_BACK_OFF:
                said = any("waiting" in c["state"] for c in old.get("containerStatuses", ()))
                reason = "ImagePullBackOff" if said else "ErrImagePull"
                text = (
                    f'Back-off pulling image "{container["image"]}"' if said else fate.message or "not found"
                )
                return _status(
                    "Pending", False, running | {"state": {"waiting": {"reason": reason, "message": text}}}
                )
            case Kind.CRASH | Kind.OUT_OF_MEMORY:
                return self._crashed(running, fate)
            case Kind.READY | Kind.RUNNING:
                started = any("running" in c["state"] for c in old.get("containerStatuses", ()))
                ready = started and fate.kind is Kind.READY
                return _status("Running", ready, running | {"ready": ready, "state": {"running": {}}})
            case _:
                return old

    def _crashed(self, container: Json, fate: Fate) -> Json:
        killed = fate.kind is Kind.OUT_OF_MEMORY
        ended = {
            "exitCode": 137 if killed else 1,
            "reason": "OOMKilled" if killed else "Error",
            "message": fate.message,
        }
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
        # The first end is shown as such; from then on the kubelet waits, and keeps the last end beside.
        if container["restartCount"] == 0:
            return _status("Running", False, container | {"restartCount": 1, "state": {"terminated": ended}})
        restarts = min(container["restartCount"] + 1, _RESTARTS_PLAYED)
        more = {"restartCount": restarts, "lastState": {"terminated": ended}}
        return _status("Running", False, container | more | {"state": {"waiting": waiting}})


def _condition(kind: str, true: bool, reason: str = "", message: str = "") -> Json:
    condition = {"type": kind, "status": str(true), "reason": reason, "message": message}
    return {field: value for field, value in condition.items() if value}


def _status(phase: str, ready: bool, container: Json | None = None) -> Json:
    conditions = [_condition("PodScheduled", True), _condition("Ready", ready)]
    return {"phase": phase, "conditions": conditions, "containerStatuses": [container] if container else []}


def _true(status: Json) -> set[str]:
    return {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}


def _is_ready(pod: Json) -> bool:
    return "Ready" in _true(pod.get("status", {}))
