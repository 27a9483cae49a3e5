"""The words of a ModelDeployment's status: condition types, reasons and states.

They are part of the API: scripts and dashboards compare them, so they are never renamed.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions. `Reconciling` and `Stalled` are present only while true, as kstatus wants."""

    AVAILABLE = "Available"
    """Enough pods serve now, whichever revision they are of."""
    READY = "Ready"
    """The revision that the spec asks for serves all requests."""
    RECONCILING = "Reconciling"
    """Work is under way; waiting is the right thing to do."""
    STALLED = "Stalled"
    """Nothing more will happen until somebody changes something; the message says what."""


class Reason(StrEnum):
    """Why a condition is as it is. Reasons name the cause, never just the symptom."""

    # All is well, or on its way.
    SERVING = "Serving"
    """The revision that the spec asks for serves."""
    SCALED_TO_ZERO = "ScaledToZero"
    """The spec asks for no replicas, and there are none."""
    PENDING = "Pending"
    """The operator has not looked at the object yet."""
    PROGRESSING = "Progressing"
    """The new revision's pods are being made or are not all ready yet."""
    SWITCHING = "Switching"
    """All pods of the new revision are ready; the Service is being pointed at them."""
    ENOUGH_PODS_READY = "EnoughPodsReady"
    """At least three quarters of the pods asked for serve (said of Available)."""
    TOO_FEW_PODS_READY = "TooFewPodsReady"
    """Fewer than that serve, or none (said of Available)."""

    # The spec must change.
    INVALID_SPEC = "InvalidSpec"
    """The spec breaks a rule; the message names the field."""
    NAME_TAKEN = "NameTaken"
    """An object that belongs to somebody else has the name of a child."""

    # The cluster stands in the way.
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The runtime image cannot be pulled."""
    UNSCHEDULABLE = "Unschedulable"
    """No node takes the pods."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A ResourceQuota forbids more pods."""
    PODS_REFUSED = "PodsRefused"
    """The API server or an admission webhook refuses the pods."""
    FORBIDDEN = "Forbidden"
    """The operator may not write what the spec needs; the message names the missing right or the policy."""

    # The model or its runtime fails.
    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed"
    """The model file cannot be fetched."""
    DIGEST_MISMATCH = "DigestMismatch"
    """The file fetched is not the one that spec.model.digest names."""
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    """The file is no model that the runtime can load, or its warm-up failed."""
    INVALID_CONFIGURATION = "InvalidConfiguration"
    """The runtime does not understand how it was configured: its image is of another release, perhaps."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel killed the container for using more memory than its limit."""
    CRASH_LOOPING = "CrashLooping"
    """The container keeps ending for some other cause."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """The new revision did not become ready within spec.rollout.progressDeadline."""


class Phase(StrEnum):
    """How far a rollout has come."""

    PROGRESSING = "Progressing"
    """Pods of the new revision are coming up; requests go where they went before."""
    SWITCHING = "Switching"
    """The new revision was promoted; the Service is being pointed at it."""
    COMPLETE = "Complete"
    """The Service points at the new revision."""
    FAILED = "Failed"
    """The new revision did not come up; requests go where they went before."""


class RevisionState(StrEnum):
    """Where one revision stands."""

    CANDIDATE = "Candidate"
    """Being rolled out; gets no requests while there is a stable revision."""
    STABLE = "Stable"
    """Serves."""
    DRAINING = "Draining"
    """Replaced; its pods finish what they have until scaleDownDelay ends."""
    FAILED = "Failed"
    """Was tried and did not become ready."""
    RETIRED = "Retired"
    """Has no pods; kept so that going back to it is known."""


class Outcome(StrEnum):
    """How a rollout ended."""

    PROMOTED = "Promoted"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"
    """The spec changed before it ended."""
