"""Why pods do not serve: the causes found in all pods of a revision and in its Deployment.

Where each comes from: container states and conditions of core/v1 PodStatus, the ReplicaFailure condition of
apps/v1 DeploymentStatus, and the runtime's own last words (`pilothouse_runtime.contract.LastWords`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pilothouse.api.conditions import Reason
from pilothouse.plan.seen import Json
from pilothouse_runtime.contract import FETCH_CONTAINER, FETCH_DRIFT_CONTAINER, LastWords

# So many restarts show that starting once more will not help. The kubelet waits 10 s, 20 s, 40 s ... between them,
# so this is about half a minute: long enough for a hiccup, short against any deadline.
_HOPELESS_RESTARTS = 3
_IMAGE_WAITS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_CONFIG_WAITS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_MESSAGE_LIMIT = 700
# What the containers bring that have the credentials.
_BROUGHT = {FETCH_CONTAINER: "the model", FETCH_DRIFT_CONTAINER: "the data set of spec.runtime.drift"}

# What a user can do about what only Kubernetes has words for.
_CHECK_IMAGE = (
    "check spec.runtime.image and spec.runtime.imagePullSecrets, or runtime.image, runtime.tensorflowImage and"
    " runtime.compileImage of the chart, whose images are taken without it"
)
_CHECK_CLAIM = (
    "; make the claim, or check spec.model.uri, spec.runtime.drift.uri and spec.runtime.sampling.claim"
)
_CHECK_KEYS = "; check spec.runtime.env and spec.runtime.sampling.secretName"


@dataclass(frozen=True)
class Cause:
    """One reason why one pod does not serve.

    `final` says that waiting cannot help. `vague` marks a message that says less than an earlier one of the same
    reason may have said (a back-off in place of the registry's answer).
    """

    reason: Reason
    message: str
    final: bool = False
    vague: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """What to tell of a revision: the worst cause, with how many pods share each."""

    reason: Reason
    message: str
    final: bool
    vague: bool


def diagnose(pods: Iterable[Json], deployment: Json | None) -> Diagnosis | None:
    """Return why a revision's pods do not serve, or None where none says that anything is wrong.

    Final causes come first, then the one that most pods have.
    """
    pods = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
    found = Counter(c for pod in pods if (c := pod_cause(pod)) is not None)
    found.update(_deployment_causes(deployment))
    if not found:
        return None
    ranked = sorted(
        found.items(), key=lambda item: (not item[0].final, -item[1], item[0].reason, item[0].message)
    )
    worst = ranked[0][0]
    parts = [_share(cause, count, len(pods)) for cause, count in ranked]
    return Diagnosis(worst.reason, shorten("; ".join(parts)), worst.final, worst.vague)


def _share(cause: Cause, count: int, pods: int) -> str:
    if pods <= 1 or cause.reason is Reason.QUOTA_EXCEEDED:
        return cause.message
    return f"{count} of {pods} pods: {cause.message}"


def shorten(text: str, limit: int = _MESSAGE_LIMIT) -> str:
    """Return `text` cut to what a status message may hold."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def pod_cause(pod: Json) -> Cause | None:
    """Return why this pod does not serve, or None where it serves or is simply not that far yet."""
    status = pod.get("status") or {}
    if _is_true(status, "Ready"):
        return None
    scheduled = _condition(status, "PodScheduled")
    if scheduled and scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        told = str(scheduled.get("message") or "no node fits")
        claim = _CHECK_CLAIM if "persistentvolumeclaim" in told else ""
        return Cause(Reason.UNSCHEDULABLE, f"cannot be scheduled: {told}{claim}")
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        cause = _container_cause(container)
        if cause is not None:
            return cause
    if status.get("phase") == "Failed":
        why = status.get("message") or status.get("reason") or "no reason given"
        return Cause(Reason.CRASH_LOOPING, f"the pod failed: {why}")
    return None


def _container_cause(container: Json) -> Cause | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    image = container.get("image", "?")
    if reason in _IMAGE_WAITS:
        vague = reason == "ImagePullBackOff"
        detail = "waiting to try again" if vague else waiting.get("message") or reason
        return Cause(
            Reason.IMAGE_PULL_FAILED,
            f'image "{image}" cannot be pulled: {detail}; {_CHECK_IMAGE}',
            final=reason == "InvalidImageName",
            vague=vague,
        )
    brought = _BROUGHT.get(container.get("name", ""))
    if reason in _CONFIG_WAITS and brought:
        why = f"the container that fetches {brought} cannot be started: {waiting.get('message') or reason}"
        return Cause(Reason.MODEL_DOWNLOAD_FAILED, f"{why}; check spec.model.secretName")
    if reason in _CONFIG_WAITS:
        why = f"the container cannot be started ({reason}): {waiting.get('message', '')}"
        return Cause(Reason.CRASH_LOOPING, f"{why}{_CHECK_KEYS}")
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if not ended or ended.get("exitCode") == 0:
        return None
    return _death(ended, int(container.get("restartCount", 0)))


def _death(ended: Json, restarts: int) -> Cause:
    text = (ended.get("message") or "").strip()
    words = LastWords.decode(text)
    if words is not None:
        return Cause(Reason(words.reason), words.message, final=words.permanent)
    hopeless = restarts >= _HOPELESS_RESTARTS
    if ended.get("reason") == "OOMKilled":
        message = (
            "killed for using more memory than its limit; "
            "raise spec.runtime.resources.limits.memory or serve a smaller model"
        )
        return Cause(Reason.OUT_OF_MEMORY, message, final=hopeless)
    last = f": {text.splitlines()[-1]}" if text else ""
    return Cause(
        Reason.CRASH_LOOPING, f"the container exited with code {ended.get('exitCode')}{last}", final=hopeless
    )


def _deployment_causes(deployment: Json | None) -> Iterator[Cause]:
    condition = _condition((deployment or {}).get("status") or {}, "ReplicaFailure")
    if not condition or condition.get("status") != "True":
        return
    message = str(condition.get("message", ""))
    if "exceeded quota" in message:
        # The server's text begins with the name of the one pod it refused, which differs each time.
        yield Cause(
            Reason.QUOTA_EXCEEDED, "pods cannot be created: " + message[message.index("exceeded quota") :]
        )
    else:
        yield Cause(Reason.PODS_REFUSED, f"pods cannot be created: {message}")


def _condition(status: Json, kind: str) -> Json | None:
    return next((c for c in status.get("conditions") or () if c.get("type") == kind), None)


def _is_true(status: Json, kind: str) -> bool:
    condition = _condition(status, kind)
    return condition is not None and condition.get("status") == "True"
