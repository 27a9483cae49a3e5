"""The status of a ModelDeployment, v1alpha1: every field that the operator may write.

The API server drops what the CRD does not know without a word, so what is not here is never stored. These
models make the CRD's schema and check in tests that a status written by the operator fits it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from pilothouse.api.conditions import (
    Command,
    ConditionType,
    DriftLevel,
    Outcome,
    Phase,
    Reason,
    RevisionState,
    Verdict,
)

Time = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Count = Annotated[int, Field(ge=0)]


class StatusModel(BaseModel):
    """An object of the status."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One condition, as metav1.Condition."""

    type: str = Field(description="Available, Ready, Reconciling or Stalled.")
    status: ConditionStatus = Field(description="Whether the condition holds.")
    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that it speaks of."
    )
    last_transition_time: Time = Field(description="When status last changed.")
    reason: str = Field(description="The cause, in one word for programs.")
    message: str = Field(description="The cause, and what to do, for people.")


class ValidationStatus(StatusModel):
    """How the validation of a revision ended."""

    passed: bool = Field(description="Whether the revision may get requests.")
    value: str = Field(default="", description="What the metric came to.")
    message: str = Field(description="What was measured and what was asked for.")
    at: Time = Field(description="When it ended.")


class AnalysisStatus(StatusModel):
    """How the new revision's requests have measured up so far."""

    since: Time = Field(description="Since when requests are counted for the measurement under way.")
    requests: Count = Field(default=0, description="Requests counted so far for the measurement under way.")
    passed: Count = Field(default=0, description="Measurements of this rollout that were good.")
    failed: Count = Field(default=0, description="Measurements of this rollout that were bad.")
    last: Verdict | None = Field(default=None, description="What the last measurement of this step was.")
    measured_at: Time | None = Field(default=None, description="When requests were last measured.")
    message: str = Field(default="", description="What the last measurement found.")


class RolloutStatus(StatusModel):
    """The rollout that runs, or the last one that ran."""

    revision: str = Field(description="Revision that is, or was, rolled out.")
    phase: Phase = Field(description="How far it has come.")
    started_at: Time = Field(description="When it began.")
    since: Time = Field(
        description="Since when it is in this phase or step; time in which it was held is left out."
    )
    plan: str = Field(default="", description="Fingerprint of the strategy and the steps that it follows.")
    step: Count | None = Field(default=None, description="Which of the steps it is in, counted from 1.")
    steps: Count | None = Field(default=None, description="How many steps there are.")
    weight: Count | None = Field(
        default=None,
        description="Share of the requests, in percent, that the step asks for the new revision.",
    )
    weight_reached: Count | None = Field(
        default=None,
        description="Share of the requests, in percent, that the new revision really gets: behind a "
        "plain Service, its share of the ready pods.",
    )
    reached: bool = Field(
        default=False, description="Whether the pods that the phase or step needs have been ready."
    )
    in_force_since: Time | None = Field(
        default=None,
        description="Since when requests are spread as the step asks; its duration counts from here.",
    )
    waiting_since: Time | None = Field(
        default=None,
        description="Since when pods that it needs are lacking; the progress deadline counts from here.",
    )
    held: bool = Field(default=False, description="Whether a pause command holds it.")
    paused_at: Time | None = Field(
        default=None, description="Since when it is held, by command or by spec.paused."
    )
    skip_steps: bool = Field(
        default=False,
        description="Whether steps, waits and validation are skipped: it goes back to a revision that served before, "
        "or was promoted in full by hand.",
    )
    validation: ValidationStatus | None = Field(default=None, description="How the validation ended.")
    analysis: AnalysisStatus | None = Field(default=None, description="How requests have measured up.")
    reason: str = Field(default="", description="What it waits for or failed of, in one word for programs.")
    message: str = Field(default="", description="What it waits for or failed of, for people.")


class LoadingStatus(StatusModel):
    """What pods do that are not ready yet, by their own word."""

    phase: str = Field(description="Starting, Pulling, Verified, Loading or Warming.")
    message: str = Field(default="", description="What goes on in it, for people.")
    since: Time = Field(description="Since when the pod is in it, by its own clock.")
    pods: Count = Field(description="Pods that are in it; others are further.")
    observed_at: Time = Field(description="When they were asked.")


class PhaseStatus(StatusModel):
    """One phase that a pod has passed through."""

    phase: str = Field(description="Starting, Pulling, Verified, Loading or Warming.")
    took: str = Field(description="How long it took.")


class DriftStatus(StatusModel):
    """How far the requests of a revision are from its golden data set. Written when the level changes."""

    level: DriftLevel = Field(description="None, Moderate or Major.")
    message: str = Field(description="What was found when the level changed, for people.")
    since: Time = Field(description="Since when it is so.")


class RevisionStatus(StatusModel):
    """One revision: a spec.model and spec.runtime that was asked for."""

    name: str = Field(
        description="Name of the revision, its Deployment, its Service and its ControllerRevision."
    )
    number: int = Field(description="Higher for later revisions.")
    version: str = Field(default="", description="spec.model.version of the revision.")
    uri: str = Field(description="spec.model.uri of the revision, without query.")
    digest: str = Field(default="", description="spec.model.digest of the revision.")
    state: RevisionState = Field(description="Where the revision stands.")
    since: Time = Field(description="Since when it stands there.")
    replicas: Count = Field(default=0, description="Pods that it has.")
    ready_replicas: Count = Field(default=0, description="Pods of it that are ready.")
    weight: Count = Field(default=0, description="Share of the requests, in percent, that it gets.")
    loading: LoadingStatus | None = Field(
        default=None, description="What its least advanced pod does that is not ready yet."
    )
    load_time: str = Field(
        default="", description="How long its first pod took from its start until it was ready."
    )
    phases: tuple[PhaseStatus, ...] = Field(
        default=(), description="What it did in that time, and how long each took."
    )
    drift: DriftStatus | None = Field(
        default=None, description="How far its requests are from its golden data set, where it has one."
    )
    promoted: bool = Field(
        default=False,
        description="Whether it has served all requests before: going back to it skips the steps.",
    )
    request_rate: str = Field(default="", description="Requests a second, while its rollout is analysed.")
    error_rate: str = Field(default="", description="Share of them that ended in a 5xx or a 429.")
    latency_p99: str = Field(default="", description="99th percentile of their latency.")
    reason: str = Field(
        default="", description="Why it failed or its pods are not ready, in one word for programs."
    )
    message: str = Field(default="", description="Why it failed or its pods are not ready, for people.")


class HistoryEntry(StatusModel):
    """One rollout that ended."""

    revision: str = Field(description="Revision that was rolled out.")
    version: str = Field(default="", description="spec.model.version of the revision.")
    outcome: Outcome = Field(description="How it ended.")
    reason: str = Field(default="", description="Why it ended so, in one word for programs.")
    message: str = Field(default="", description="Why it ended so, for people.")
    started_at: Time = Field(description="When it began.")
    ended_at: Time = Field(description="When it ended.")


class CommandStatus(StatusModel):
    """A command that was given by annotation, and what became of it."""

    command: Command = Field(description="Which command.")
    value: str = Field(
        description="Value of the annotation; one with the same value is not carried out again."
    )
    outcome: str = Field(description="What became of it.")
    at: Time = Field(description="When.")


class ModelDeploymentStatus(StatusModel):
    """What the operator last saw. Written by the operator only."""

    observed_generation: int = Field(description="Generation of the spec that this status speaks of.")
    url: str = Field(default="", description="Address of the model inside the cluster.")
    replicas: Count = Field(default=0, description="Pods of the revision that serves.")
    ready_replicas: Count = Field(default=0, description="Pods of the revision that serves which are ready.")
    replicas_summary: str = Field(default="", description="Ready pods of the pods asked for, such as 2/3.")
    selector: str = Field(
        default="", description="Label selector of the pods that serve, for the scale subresource."
    )
    stable_revision: str = Field(default="", description="Revision that serves.")
    stable_version: str = Field(default="", description="spec.model.version of the revision that serves.")
    target_revision: str = Field(default="", description="Revision that the spec asks for.")
    rollout: RolloutStatus | None = Field(default=None, description="The rollout that runs, or the last one.")
    revisions: tuple[RevisionStatus, ...] = Field(
        default=(),
        description="Revisions that are known, newest first.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    history: tuple[HistoryEntry, ...] = Field(default=(), description="Rollouts that ended, newest first.")
    commands: tuple[CommandStatus, ...] = Field(
        default=(),
        description="Commands whose annotations are still there, with what became of them.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["command"]},
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Available: enough pods serve, of whichever revision. Ready: the revision that the spec asks "
        "for serves all requests. Reconciling and Stalled are present only while true.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


# What every reader sees before the operator's first write: to kstatus an object without a Ready condition is done.
UNSEEN: Final[dict[str, Any]] = {
    "observedGeneration": 0,
    "replicas": 0,
    "readyReplicas": 0,
    "conditions": [
        {
            "type": str(ConditionType.READY),
            "status": str(ConditionStatus.UNKNOWN),
            "reason": str(Reason.PENDING),
            "message": "waiting for the operator; if this stays so, see whether it runs and watches this namespace",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
            "observedGeneration": 0,
        }
    ],
}
