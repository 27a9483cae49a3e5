"""What becomes of a pod, as the scheduler and the kubelet write it (core/v1 PodStatus), one step at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pilothouse.plan.clock import moment, stamp
from pilothouse.plan.seen import Json

# A crash loop goes on for ever; it is played until nobody learns anything new from it.
_RESTARTS_PLAYED = 6


class Kind(StrEnum):
    """What can become of a pod."""

    READY = "ready"
    DONE = "done"  # of a Job: ends well, `message` is its termination message
    RUNNING = "running"  # starts, and never becomes ready; of a Job: never ends
    PENDING = "pending"  # scheduled, and nothing more happens
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL_BACK_OFF = "image"
    CRASH = "crash"  # `message` is its termination message
    OUT_OF_MEMORY = "oom"
    QUOTA = "quota"  # it cannot even be created


@dataclass(frozen=True)
class Fate:
    """What becomes of the pods of one revision, or of its Job.

    Attributes:
        message: its meaning depends on the kind.
        seconds: how long a Job's pod runs before it ends.
    """

    kind: Kind = Kind.READY
    message: str = ""
    seconds: float = 0.0


def next_status(pod: Json, fate: Fate) -> Json:
    """Return the status of a pod that serves, one step on."""
    old: Json = pod.get("status", {})
    unscheduled = _unscheduled(old, fate)
    if unscheduled is not None:
        return unscheduled
    container = _container(pod, old)
    match fate.kind:
        case Kind.IMAGE_PULL_BACK_OFF:
            return _pulling(pod, old, container, fate)
        case Kind.CRASH | Kind.OUT_OF_MEMORY:
            return _crash_looping(pod, container, fate)
        case Kind.READY | Kind.RUNNING:
            started = any("running" in c["state"] for c in old.get("containerStatuses", ()))
            ready = started and fate.kind is Kind.READY
            return _status("Running", pod, ready, container | {"ready": ready, "state": {"running": {}}})
        case _:
            return old


def next_job_status(pod: Json, fate: Fate, now: datetime) -> Json:
    """Return the status of a Job's pod that is never restarted, one step on."""
    old: Json = pod.get("status", {})
    unscheduled = _unscheduled(old, fate)
    if unscheduled is not None:
        return unscheduled
    container = _container(pod, old)
    match fate.kind:
        case Kind.IMAGE_PULL_BACK_OFF:
            return _pulling(pod, old, container, fate)
        case Kind.PENDING:
            return old
    running = next((c["state"]["running"] for c in old["containerStatuses"] if "running" in c["state"]), None)
    if running is None or fate.kind is Kind.RUNNING:
        since = running or {"startedAt": stamp(now)}
        return _status("Running", pod, True, container | {"ready": True, "state": {"running": since}})
    if now < moment(running["startedAt"]) + timedelta(seconds=fate.seconds):
        return old
    well = fate.kind is Kind.DONE
    ended = {"exitCode": 0, "reason": "Completed", "message": fate.message} if well else _end(fate)
    phase = "Succeeded" if well else "Failed"
    return _status(phase, pod, False, container | {"state": {"terminated": ended}})


def condition(kind: str, true: bool, reason: str = "", message: str = "") -> Json:
    """Return a condition as the controllers of Kubernetes write it; what is empty is left out."""
    whole = {"type": kind, "status": str(true), "reason": reason, "message": message}
    return {field: value for field, value in whole.items() if value}


def is_ready(pod: Json) -> bool:
    """Whether the pod's Ready condition is true."""
    return "Ready" in _true(pod.get("status", {}))


def _unscheduled(old: Json, fate: Fate) -> Json | None:
    """Return the status of a pod that no node runs yet, or None for one that a node runs."""
    if "PodScheduled" in _true(old):
        return None
    if fate.kind is Kind.UNSCHEDULABLE:
        text = fate.message or "0/1 nodes are available: 1 Insufficient cpu."
        return {
            "phase": "Pending",
            "conditions": [condition("PodScheduled", False, "Unschedulable", text)],
        }
    conditions = [condition("PodScheduled", True), condition("Ready", False)]
    return {"phase": "Pending", "conditions": conditions, "containerStatuses": []}


def _container(pod: Json, old: Json) -> Json:
    container = pod["spec"]["containers"][0]
    restarts = sum(c["restartCount"] for c in old.get("containerStatuses", ()))
    return {
        "name": container["name"],
        "image": container["image"],
        "restartCount": restarts,
        "ready": False,
    }


def _pulling(pod: Json, old: Json, container: Json, fate: Fate) -> Json:
    said = any("waiting" in c["state"] for c in old.get("containerStatuses", ()))
    reason = "ImagePullBackOff" if said else "ErrImagePull"
    text = f'Back-off pulling image "{container["image"]}"' if said else fate.message or "not found"
    return _status(
        "Pending", pod, False, container | {"state": {"waiting": {"reason": reason, "message": text}}}
    )


def _crash_looping(pod: Json, container: Json, fate: Fate) -> Json:
    ended = _end(fate)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
    # The first end is shown as such; from then on the kubelet waits, and keeps the last end beside.
    if container["restartCount"] == 0:
        return _status("Running", pod, False, container | {"restartCount": 1, "state": {"terminated": ended}})
    restarts = min(container["restartCount"] + 1, _RESTARTS_PLAYED)
    more = {"restartCount": restarts, "lastState": {"terminated": ended}}
    return _status("Running", pod, False, container | more | {"state": {"waiting": waiting}})


def _end(fate: Fate) -> Json:
    killed = fate.kind is Kind.OUT_OF_MEMORY
    return {
        "exitCode": 137 if killed else 1,
        "reason": "OOMKilled" if killed else "Error",
        "message": fate.message,
    }


def _status(phase: str, pod: Json, ready: bool, container: Json) -> Json:
    conditions = [condition("PodScheduled", True), condition("Ready", ready)]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": [container]}
    return status | {"podIP": pod["metadata"]["annotations"]["address"]}


def _true(status: Json) -> set[str]:
    return {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
