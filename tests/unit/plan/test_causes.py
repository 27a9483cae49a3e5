"""Pods as Kubernetes describes them, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.api.conditions import Reason
from pilothouse.plan.causes import diagnose
from pilothouse_runtime.contract import TERMINATION_LOG_LIMIT, FailureReason, LastWords


def pod(**container: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
            "containerStatuses": [{"name": "model", "image": "runtime:1", "restartCount": 0, **container}],
        },
    }


def ended(restarts: int = 1, **state: Any) -> dict[str, Any]:
    return pod(
        restartCount=restarts,
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 1, "reason": "Error", **state}},
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return pod(state={"waiting": {"reason": reason, "message": message}})


def unschedulable(
    message: str = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    return {"metadata": {"name": "p"}, "status": {"phase": "Pending", "conditions": [condition]}}


def words(reason: FailureReason, *, permanent: bool) -> str:
    return LastWords(reason, "what the runtime said", permanent).encode()


@pytest.mark.parametrize(
    ("seen", "reason", "told", "final"),
    [
        (waiting("ErrImagePull", "manifest unknown"), Reason.IMAGE_PULL_FAILED, "manifest unknown", False),
        (waiting("ImagePullBackOff", "Back-off"), Reason.IMAGE_PULL_FAILED, "spec.runtime.image", False),
        (
            waiting("ErrImagePull", "away"),
            Reason.IMAGE_PULL_FAILED,
            "away; check spec.runtime.image and",
            False,
        ),
        (
            waiting("ErrImagePull", "away"),
            Reason.IMAGE_PULL_FAILED,
            "runtime.compileImage of the chart",
            False,
        ),
        (waiting("InvalidImageName", "bad"), Reason.IMAGE_PULL_FAILED, "bad", True),
        (unschedulable(), Reason.UNSCHEDULABLE, "Insufficient nvidia.com/gpu", False),
        (
            unschedulable('0/1 nodes are available: 1 persistentvolumeclaim "models" not found.'),
            Reason.UNSCHEDULABLE,
            '"models" not found.; make the claim, or check spec.model.uri, ',
            False,
        ),
        (ended(reason="OOMKilled", exitCode=137), Reason.OUT_OF_MEMORY, "resources.limits.memory", False),
        (ended(restarts=3, reason="OOMKilled"), Reason.OUT_OF_MEMORY, "memory", True),
        (ended(message="Traceback\nValueError: no"), Reason.CRASH_LOOPING, "code 1: ValueError: no", False),
        (ended(restarts=3), Reason.CRASH_LOOPING, "code 1", True),
        (
            ended(message=words(FailureReason.DIGEST_MISMATCH, permanent=True)),
            Reason.DIGEST_MISMATCH,
            "what the runtime said",
            True,
        ),
        (
            ended(restarts=9, message=words(FailureReason.MODEL_DOWNLOAD_FAILED, permanent=False)),
            Reason.MODEL_DOWNLOAD_FAILED,
            "what the runtime said",
            False,
        ),
        (
            waiting("CreateContainerConfigError", 'secret "x" not found'),
            Reason.CRASH_LOOPING,
            'secret "x" not found; check spec.runtime.env and spec.runtime.sampling.secretName',
            False,
        ),
    ],
)
def test_each_cause_is_told(seen: dict[str, Any], reason: Reason, told: str, final: bool) -> None:
    found = diagnose([seen], None)
    assert found is not None
    assert (found.reason, found.final) == (reason, final)
    assert told in found.message


def test_all_pods_count_not_only_the_first() -> None:
    pods = [waiting("ErrImagePull", "no route"), unschedulable(), unschedulable()]
    found = diagnose(pods, None)
    assert found is not None
    assert found.reason == Reason.UNSCHEDULABLE
    assert "2 of 3 pods: cannot be scheduled" in found.message
    assert "1 of 3 pods: image" in found.message


def test_final_cause_comes_before_a_more_common_one() -> None:
    hopeless = ended(message=words(FailureReason.DIGEST_MISMATCH, permanent=True))
    found = diagnose([unschedulable(), unschedulable(), hopeless], None)
    assert found is not None
    assert (found.reason, found.final) == (Reason.DIGEST_MISMATCH, True)


def test_quota_is_found_in_the_deployment_and_without_the_name_of_a_pod() -> None:
    text = 'pods "digits-x-7rkzp" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": text}
    found = diagnose([], {"status": {"conditions": [condition]}})
    assert found is not None
    assert found.reason == Reason.QUOTA_EXCEEDED
    assert "exceeded quota: small" in found.message
    assert "7rkzp" not in found.message, "a name that changes each time would be written each time"


def test_pods_that_are_well_or_on_their_way_are_no_cause() -> None:
    ready = pod(state={"running": {}})
    ready["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    leaving = ended() | {"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert diagnose([ready, pod(state={"waiting": {"reason": "ContainerCreating"}}), leaving], None) is None


def test_long_messages_are_cut() -> None:
    found = diagnose([waiting("ErrImagePull", "x" * 5000)], None)
    assert found is not None
    assert len(found.message) <= 700


def test_last_words_fit_into_what_the_kubelet_keeps() -> None:
    for text in ("x" * 9000, "é" * 9000, "\n" * 9000, ""):
        encoded = LastWords(FailureReason.MODEL_LOAD_FAILED, text, permanent=True).encode()
        assert len(encoded.encode()) <= TERMINATION_LOG_LIMIT
        decoded = LastWords.decode(encoded)
        assert decoded is not None
        assert decoded.reason == FailureReason.MODEL_LOAD_FAILED


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"reason": "Else", "message": "", "permanent": true}', "Killed"]
)
def test_words_of_others_are_not_ours(text: str) -> None:
    assert LastWords.decode(text) is None
