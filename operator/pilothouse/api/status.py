"""The status of a ModelDeployment, v1alpha1: every field that the operator may write.

The API server drops what the CRD does not know without a word, so what is not here is never stored. These
models make the CRD's schema and check in tests that a status written by the operator fits it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from pilothouse.api.conditions import ConditionType, Outcome, Phase, Reason, RevisionState

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


class RolloutStatus(StatusModel):
    """The rollout that runs, or the last one that ran."""

    revision: str = Field(description="Revision that is, or was, rolled out.")
    phase: Phase = Field(description="How far it has come.")
    started_at: Time = Field(description="When it began.")
    reason: str = Field(default="", description="What it waits for or failed of, in one word for programs.")
    message: str = Field(default="", description="What it waits for or failed of, for people.")


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
    reason: str = Field(default="", description="Why its pods are not ready, in one word for programs.")
    message: str = Field(default="", description="Why its pods are not ready, for people.")


class HistoryEntry(StatusModel):
    """One rollout that ended."""

    revision: str = Field(description="Revision that was rolled out.")
    version: str = Field(default="", description="spec.model.version of the revision.")
    outcome: Outcome = Field(description="How it ended.")
    reason: str = Field(default="", description="Why it ended so, in one word for programs.")
    message: str = Field(default="", description="Why it ended so, for people.")
    started_at: Time = Field(description="When it began.")
    ended_at: Time = Field(description="When it ended.")


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
