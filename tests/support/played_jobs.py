"""Plays the Job controller on a `MemoryCluster`: pods that run to an end, and what batch/v1 JobStatus says of them."""

from __future__ import annotations

from datetime import timedelta

from pilothouse.plan.clock import moment, stamp
from pilothouse.plan.seen import Json
from tests.support.memory_cluster import MemoryCluster, Ref
from tests.support.played_pods import Fate, Kind, condition, is_ready, next_job_status


class PlayedJobs:
    """The Job controller, and the kubelet for pods of Jobs.

    Only what a Job with one completion and `restartPolicy: Never` needs: that is how pods are kept whose termination
    messages matter.

    Attributes:
        fates: fate of the pods by the Job's name; `default` where there is none. It may change at any time.
    """

    def __init__(self, cluster: MemoryCluster, default: Fate) -> None:
        self.cluster = cluster
        self.default = default
        self.fates: dict[str, Fate] = {}
        self._pods_made = 0

    def step(self) -> None:
        """Look at every Job and move each of its pods one step on."""
        for ref in sorted(ref for ref in self.cluster.objects if ref.kind == "Job"):
            if not _finished(self.cluster.objects[ref]):
                self._create_pod(ref)
                self._advance(ref)
                self._report(ref)

    def pods(self, name: str) -> list[Json]:
        """Return the pods of one Job that are not being deleted."""
        return [
            pod
            for ref, pod in self.cluster.objects.items()
            if ref.kind == "Pod"
            and pod["metadata"]["annotations"].get("job") == name
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def _fate(self, name: str) -> Fate:
        return self.fates.get(name, self.default)

    def _create_pod(self, ref: Ref) -> None:
        job = self.cluster.objects[ref]
        if any(not _over(pod) for pod in self.pods(ref.name)) or self._fate(ref.name).kind is Kind.QUOTA:
            return
        self._pods_made += 1
        meta, template = job["metadata"], job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": ref.name, "uid": meta["uid"]}
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"{ref.name}-{self._pods_made:05d}",
                    "namespace": ref.namespace,
                    "labels": dict(template["metadata"]["labels"]),
                    "annotations": {"job": ref.name, "address": f"10.245.0.{self._pods_made % 250 + 1}"},
                    "ownerReferences": [owner | {"controller": True}],
                },
                "spec": template["spec"],
            }
        )

    def _advance(self, ref: Ref) -> None:
        for pod in self.pods(ref.name):
            if not _over(pod):
                status = next_job_status(pod, self._fate(ref.name), self.cluster.now())
                self._set_status(Ref("Pod", ref.namespace, pod["metadata"]["name"]), status)

    def _report(self, ref: Ref) -> None:
        job, pods, now = self.cluster.objects[ref], self.pods(ref.name), self.cluster.now()
        spec = job["spec"]
        succeeded = [p for p in pods if _phase(p) == "Succeeded"]
        failed = [p for p in pods if _phase(p) == "Failed"]
        active = [p for p in pods if not _over(p)]
        started = job.get("status", {}).get("startTime", stamp(now))
        limit = spec.get("activeDeadlineSeconds")
        conditions: list[Json] = []
        if succeeded:
            conditions.append(condition("Complete", True))
        elif len(failed) > spec["backoffLimit"]:
            text = "Job has reached the specified backoff limit"
            conditions.append(condition("Failed", True, "BackoffLimitExceeded", text))
        elif limit is not None and now >= moment(started) + timedelta(seconds=limit):
            text = "Job was active longer than specified deadline"
            conditions.append(condition("Failed", True, "DeadlineExceeded", text))
        if conditions:  # what still runs is ended, and nothing is left of it
            for pod in active:
                self.cluster.delete(Ref("Pod", ref.namespace, pod["metadata"]["name"]))
            active = []
        counts = {
            "active": len(active),
            "ready": sum(map(is_ready, active)),
            "succeeded": len(succeeded),
            "failed": len(failed),
        }
        status: Json = {field: count for field, count in counts.items() if count}  # Go's omitempty
        status |= {"startTime": started}
        if conditions:
            status["conditions"] = conditions
        if succeeded:
            status["completionTime"] = stamp(now)
        self._set_status(ref, status)

    def _set_status(self, ref: Ref, status: Json) -> None:
        if self.cluster.objects[ref].get("status") != status:
            self.cluster.set_status(ref, status)


def _phase(pod: Json) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _over(pod: Json) -> bool:
    return _phase(pod) in ("Succeeded", "Failed")


def _finished(job: Json) -> bool:
    return bool(job.get("status", {}).get("conditions"))
