"""The validation of a revision: a Job that asks it the golden data set, and what the Job found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pilothouse.api import names
from pilothouse.api.conditions import Phase, Reason
from pilothouse.api.durations import seconds
from pilothouse.api.rollout import Against, Validation
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.causes import diagnose, shorten
from pilothouse.plan.claims import claim_of
from pilothouse.plan.clock import after
from pilothouse.plan.fetching import Fetching
from pilothouse.plan.pods import restricted_container, restricted_pod, with_fetching
from pilothouse.plan.revisions import child_metadata
from pilothouse.plan.seen import Json, Seen, controller_uid
from pilothouse.plan.state import Rollout, State, Validated
from pilothouse.plan.template import Defaults
from pilothouse_runtime import contract
from pilothouse_runtime.contract import HTTP_PORT_NAME, LastWords, ValidationReport

CONTAINER = "validation"
_ATTEMPTS = 3  # a pod may lose its node; a wrong answer is an answer, and ends the Job well
# Between the program's own end at its time-out, with last words, and the Job controller's.
_GRACE_SECONDS = 10
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}


@dataclass(frozen=True)
class NotPassed:
    """Why a revision did not pass: its answers, or that they could not be had."""

    reason: Reason
    message: str


def job(
    seen: Seen, spec: ModelDeploymentSpec, state: State, revision: str, defaults: Defaults
) -> Json | None:
    """Return the Job that validates `revision`, or None until the Services that it asks have addresses.

    The Job goes by cluster IPs: not every cluster has a DNS. Its pods carry no revision label, so no Service selects
    them.
    """
    validation = spec.rollout.validation
    url = _address(seen, revision)
    if validation is None or url is None:
        return None
    image = spec.runtime.image or defaults.runtime_image
    secret = spec.model.secret_name
    fetching = Fetching(
        validation.uri, validation.digest, secret, image, defaults.cache, field="rollout.validation"
    )
    values: dict[str, str | None] = {
        contract.ENV_MODEL_NAME: seen.key.name,
        contract.ENV_VALIDATION_URI: fetching.uri_within,
        contract.ENV_VALIDATION_DIGEST: validation.digest,
        contract.ENV_VALIDATION_METRIC: str(validation.metric),
        contract.ENV_VALIDATION_URL: url,
        contract.ENV_VALIDATION_TIMEOUT: str(max(round(seconds(validation.timeout)), 1)),
    }
    if validation.against is Against.STABLE and state.stable is not None:
        stable_url = _address(seen, state.stable)
        if stable_url is None:
            return None
        values[contract.ENV_VALIDATION_STABLE_URL] = stable_url
    labels = {**names.child_labels(seen.key.name, None), names.LABEL_VALIDATION: revision}
    container = restricted_container(CONTAINER, image, claim_of(validation.uri)) | {
        "command": list(contract.VALIDATION_COMMAND),
        "env": [{"name": key, "value": value} for key, value in values.items() if value],
        "resources": _RESOURCES,
    }
    pod = with_fetching(restricted_pod(spec.runtime, container, claim_of(validation.uri)), fetching)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(seen.body, revision, revision),
        "spec": {
            "backoffLimit": _ATTEMPTS - 1,
            "activeDeadlineSeconds": round(seconds(validation.timeout)) + _GRACE_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod | {"restartPolicy": "Never"}},
        },
    }


def _address(seen: Seen, revision: str) -> str | None:
    service = seen.service(revision)
    address = (service or {"spec": {}})["spec"].get("clusterIP") or None
    if service is None or address is None:
        return None
    port = next(p["port"] for p in service["spec"]["ports"] if p["name"] == HTTP_PORT_NAME)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def outcome(
    seen: Seen, validation: Validation, rollout: Rollout, now: datetime
) -> Validated | NotPassed | None:
    """Return how the validation of the rollout's revision ended, or None while it has not.

    A Job that cannot start, that is killed, or that ends without a report is not a pass.
    """
    job_seen = seen.job(rollout.revision)
    overdue = now >= after(rollout.since, seconds(validation.timeout) + 2 * _GRACE_SECONDS)
    if job_seen is None:
        return _not_done(f"its Job was not there within {validation.timeout}") if overdue else None
    pods = _pods(seen, job_seen)
    reports = [r for pod in pods if (r := _report(pod)) is not None]
    if reports:
        return _judged(reports[0], validation, now)
    words = [w for pod in pods if (w := LastWords.decode(_termination(pod))) is not None]
    ended = _failed(job_seen)
    if words and (ended or any(w.permanent for w in words)):
        final = next((w for w in words if w.permanent), words[-1])
        return NotPassed(_REASONS.get(final.reason, Reason.VALIDATION_NOT_DONE), shorten(final.message))
    if ended is None and not overdue:
        return None
    found = diagnose(pods, None)
    why = found.message if found else "its pod left no report" if pods else "its pod could not be created"
    late = overdue or (ended or {}).get("reason") == "DeadlineExceeded"
    return _not_done(f"{why} (within {validation.timeout})" if late else why)


_REASONS = {
    contract.FailureReason.VALIDATION_FAILED: Reason.VALIDATION_FAILED,
    contract.FailureReason.DIGEST_MISMATCH: Reason.VALIDATION_NOT_DONE,
}


def _not_done(why: str) -> NotPassed:
    return NotPassed(Reason.VALIDATION_NOT_DONE, shorten(f"the validation could not be carried out: {why}"))


def _judged(report: ValidationReport, validation: Validation, now: datetime) -> Validated | NotPassed:
    low, high = validation.min, validation.max
    value = f"{report.value:.6g}"
    against = "" if validation.against is Against.EXPECTED else " against the stable revision"
    message = f"{report.metric}{against} is {value} over {report.rows} rows, asked for is {bounds(low, high)}"
    if report.value != report.value:
        message = f"{message}: {report.message}"
    if not within(report.value, low, high):
        return NotPassed(Reason.VALIDATION_FAILED, shorten(message))
    return Validated(True, value, message, now)


def within(value: float, low: float | None, high: float | None) -> bool:
    """Whether a value lies within bounds; NaN lies within none."""
    return (low is None or value >= low) and (high is None or value <= high)


def bounds(low: float | None, high: float | None) -> str:
    """Return bounds as people read them."""
    said = [f"at least {low:g}"] if low is not None else []
    said += [f"at most {high:g}"] if high is not None else []
    return " and ".join(said)


def _pods(seen: Seen, job_seen: Json) -> list[Json]:
    """Return the Job's own pods: those of an earlier Job of the same name may still be waiting to be collected."""
    return [pod for pod in seen.pods if controller_uid(pod) == job_seen["metadata"]["uid"]]


def _termination(pod: Json) -> str:
    status = pod.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        ended = (container.get("state") or {}).get("terminated")
        if ended and ended.get("message"):
            return str(ended.get("message") or "").strip()
    return ""


def _report(pod: Json) -> ValidationReport | None:
    return ValidationReport.decode(_termination(pod))


def _failed(job_seen: Json) -> Json | None:
    conditions = job_seen.get("status", {}).get("conditions") or ()
    # A Job that is complete but whose pod left no report has not validated anything.
    return next(
        (c for c in conditions if c["type"] in ("Failed", "Complete") and c["status"] == "True"), None
    )


def wanted(state: State, spec: ModelDeploymentSpec) -> str | None:
    """Return the revision that is to be validated now, or None."""
    rollout = state.rollout
    if rollout is None or rollout.phase is not Phase.VALIDATING or spec.rollout.validation is None:
        return None
    return rollout.revision
