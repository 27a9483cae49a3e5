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
    VALIDATING = "Validating"
    """The new revision answers the validation's data set; it gets no user's request before it has passed."""
    SHIFTING = "Shifting"
    """The new revision gets a share of the requests, by a step of its rollout."""
    WAITING_FOR_PROMOTION = "WaitingForPromotion"
    """A step lasts until somebody promotes it; the message says how."""
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    """A step has ended, but too few requests came to judge the new revision; waits for more, or a promotion."""
    PAUSED = "Paused"
    """spec.paused or a pause command holds the rollout."""
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
    """The model cannot be fetched."""
    NO_SPACE = "NoSpace"
    """The model does not fit on the disk where it is to be kept."""
    DIGEST_MISMATCH = "DigestMismatch"
    """What was fetched is not the one that spec.model.digest names."""
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    """The file is no model that the runtime can load, or its warm-up failed."""
    OPTIMIZATION_FAILED = "OptimizationFailed"
    """The model cannot be run as spec.runtime.optimize says, or its answers would be too far off."""
    INVALID_CONFIGURATION = "InvalidConfiguration"
    """The runtime does not understand how it was configured: its image is of another release, perhaps."""
    OUT_OF_MEMORY = "OutOfMemory"
    """The kernel killed the container for using more memory than its limit."""
    CRASH_LOOPING = "CrashLooping"
    """The container keeps ending for some other cause."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """The new revision did not become ready within spec.rollout.progressDeadline."""

    # The new revision was judged.
    VALIDATION_FAILED = "ValidationFailed"
    """The new revision's answers to the validation's data set are not good enough."""
    VALIDATION_NOT_DONE = "ValidationNotDone"
    """The validation could not be carried out, which is no pass: its data set cannot be had, or its Job cannot run."""
    ANALYSIS_FAILED = "AnalysisFailed"
    """The new revision's requests were measured, and are worse than spec.rollout.analysis allows."""
    ABORTED = "Aborted"
    """Somebody aborted the rollout."""


class Phase(StrEnum):
    """How far a rollout has come."""

    PROGRESSING = "Progressing"
    """Pods of the new revision are coming up; requests go where they went before."""
    VALIDATING = "Validating"
    """The new revision answers the validation's data set; requests go where they went before."""
    SHIFTING = "Shifting"
    """The new revision gets a share of the requests: a canary's steps, or pod by pod where there is little surge."""
    AWAITING = "AwaitingPromotion"
    """The new revision is ready to take over, and waits for a promotion by hand."""
    PROMOTING = "Promoting"
    """The new revision has passed, and comes up to full size; requests go as in its last step."""
    SWITCHING = "Switching"
    """The new revision was promoted; the Service is being pointed at it."""
    COMPLETE = "Complete"
    """The Service points at the new revision."""
    FAILED = "Failed"
    """The new revision failed or was aborted; requests go to the stable one."""
    RETRYING = "Retrying"
    """A revision that failed is tried again as soon as its old pods are gone."""


class RevisionState(StrEnum):
    """Where one revision stands."""

    CANDIDATE = "Candidate"
    """Being rolled out; gets the share of the requests that the rollout's step says."""
    STABLE = "Stable"
    """Serves."""
    DRAINING = "Draining"
    """Replaced; its pods finish what they have until scaleDownDelay ends."""
    FAILED = "Failed"
    """Was tried, and did not come up or was not good enough."""
    RETIRED = "Retired"
    """Has no pods; kept so that going back to it is known."""


class Outcome(StrEnum):
    """How a rollout ended."""

    PROMOTED = "Promoted"
    FAILED = "Failed"
    ABORTED = "Aborted"
    """Somebody aborted it."""
    SUPERSEDED = "Superseded"
    """The spec changed before it ended."""


class Verdict(StrEnum):
    """What a measurement says of the new revision."""

    GOOD = "Good"
    BAD = "Bad"
    INCONCLUSIVE = "Inconclusive"


class Command(StrEnum):
    """What may be asked by an annotation pilothouse.dev/COMMAND=REVISION; it is carried out once."""

    PROMOTE = "promote"
    """End the step that the rollout is in; REVISION:full ends all of them."""
    ABORT = "abort"
    """Give the rollout up: all requests back to the stable revision."""
    RETRY = "retry"
    """Try a revision that failed or was aborted once more."""
    PAUSE = "pause"
    """Hold the rollout where it is."""
    RESUME = "resume"
    """Let a held rollout go on."""


class DriftLevel(StrEnum):
    """How far the requests of a revision are from its golden data set, least first."""

    NONE = "None"
    """Not further than chance alone explains."""
    MODERATE = "Moderate"
    """Further than that: an index of 0.1 and more."""
    MAJOR = "Major"
    """An index of 0.25 and more: the model answers what it was not made for."""
