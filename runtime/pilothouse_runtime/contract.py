"""What the operator and a runtime pod agree on: names, ports, paths, how far a pod is, and the words it dies with.

Standard library only: this is the one module of the runtime that the operator imports, and the
operator's image holds no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

HTTP_PORT: Final = 8080
HTTP_PORT_NAME: Final = "http"
GRPC_PORT: Final = 8081
GRPC_PORT_NAME: Final = "grpc"

# Environment of the serving container, set by the operator. Values are text; SIGNATURE is JSON:
# {"inputs": [{"name", "datatype", "shape"}], "outputs": [...]}, shapes as in the Open Inference Protocol.
ENV_PREFIX: Final = "PILOTHOUSE_"
ENV_MODEL_NAME: Final = "PILOTHOUSE_MODEL_NAME"
ENV_MODEL_URI: Final = "PILOTHOUSE_MODEL_URI"
ENV_MODEL_VERSION: Final = "PILOTHOUSE_MODEL_VERSION"
ENV_MODEL_DIGEST: Final = "PILOTHOUSE_MODEL_DIGEST"
ENV_MODEL_FORMAT: Final = "PILOTHOUSE_MODEL_FORMAT"
# module:function of a package in the image that makes the network for a file that holds weights only.
ENV_MODEL_FACTORY: Final = "PILOTHOUSE_MODEL_FACTORY"
ENV_MODEL_SIGNATURE: Final = "PILOTHOUSE_MODEL_SIGNATURE"
ENV_DEVICE: Final = "PILOTHOUSE_DEVICE"
ENV_OPTIMIZE: Final = "PILOTHOUSE_OPTIMIZE"  # none, compile, bf16, int8 or mmap: how the model is run
ENV_REVISION: Final = "PILOTHOUSE_REVISION"
# Seconds after SIGTERM for which the server still takes requests while it already says "not ready",
# so that endpoints can propagate, and the most it then waits for what is in flight.
ENV_DRAIN_DELAY: Final = "PILOTHOUSE_DRAIN_DELAY_SECONDS"
ENV_DRAIN_TIMEOUT: Final = "PILOTHOUSE_DRAIN_TIMEOUT_SECONDS"
# The largest body of one request, in bytes; a larger one is answered with 413.
ENV_MAX_REQUEST_BYTES: Final = "PILOTHOUSE_MAX_REQUEST_BYTES"
# Seconds after which an answer ends its connection, so that clients spread over the pods anew; 0 is never.
ENV_MAX_CONNECTION_AGE: Final = "PILOTHOUSE_MAX_CONNECTION_AGE_SECONDS"
# Dynamic batching: the most rows that are run as one (1: never more than one request), and the most milliseconds for
# which a request waits for others while the model has nothing to do.
ENV_BATCH_MAX_SIZE: Final = "PILOTHOUSE_BATCH_MAX_SIZE"
ENV_BATCH_MAX_DELAY: Final = "PILOTHOUSE_BATCH_MAX_DELAY_MS"
ENV_ACCESS_LOG: Final = "PILOTHOUSE_ACCESS_LOG"  # 1: a JSON line for each inference request
ENV_EXPLAIN: Final = "PILOTHOUSE_EXPLAIN"  # 1: requests may ask for explanations
# Of the golden data set (.npz) that inputs and outputs are compared with, and its sha256:..., which may be left out.
ENV_DRIFT_PROFILE: Final = "PILOTHOUSE_DRIFT_PROFILE"
ENV_DRIFT_DIGEST: Final = "PILOTHOUSE_DRIFT_DIGEST"
# Keeping some requests with their answers: which share of them, 0 to 1 (0: none), where (a folder, or s3://bucket/prefix/,
# gs:// or az://, with the store's own variables beside it), the most in a minute, and the most bytes of the files
# together, or of one object.
ENV_SAMPLING_RATE: Final = "PILOTHOUSE_SAMPLING_RATE"
ENV_SAMPLING_DIRECTORY: Final = "PILOTHOUSE_SAMPLING_DIRECTORY"
ENV_SAMPLING_URI: Final = "PILOTHOUSE_SAMPLING_URI"
ENV_SAMPLING_PER_MINUTE: Final = "PILOTHOUSE_SAMPLING_PER_MINUTE"
ENV_SAMPLING_MAX_BYTES: Final = "PILOTHOUSE_SAMPLING_MAX_BYTES"
# Processes that serve the model; with more than one, they share its weights in memory, and the CPUs between them.
ENV_WORKERS: Final = "PILOTHOUSE_WORKERS"
ENV_LOG_LEVEL: Final = "PILOTHOUSE_LOG_LEVEL"

# The other program of the runtime's image: it sends a golden data set to a revision's own Service and tells in the
# termination log how good the answers are. It ends with 0 and a ValidationReport where that could be computed,
# whatever came out, else with 1 and LastWords. It reads ENV_MODEL_NAME and ENV_LOG_LEVEL too.
VALIDATION_COMMAND: Final = ("python", "-m", "pilothouse_runtime.validate")
ENV_VALIDATION_URI: Final = (
    "PILOTHOUSE_VALIDATION_URI"  # of the data set, an .npz file; schemes as for a model
)
ENV_VALIDATION_DIGEST: Final = "PILOTHOUSE_VALIDATION_DIGEST"  # sha256:... of that file; may be left out
ENV_VALIDATION_METRIC: Final = "PILOTHOUSE_VALIDATION_METRIC"  # accuracy, meanSquaredError or maxDifference
ENV_VALIDATION_URL: Final = "PILOTHOUSE_VALIDATION_URL"  # where the revision answers, such as http://10.0.0.7
# Where the stable revision answers: with this, answers are compared with its answers (against: Stable) and not
# with the data set's outputs.
ENV_VALIDATION_STABLE_URL: Final = "PILOTHOUSE_VALIDATION_STABLE_URL"
# Seconds after which the program gives up, with last words; a Job's own deadline belongs some seconds after it.
ENV_VALIDATION_TIMEOUT: Final = "PILOTHOUSE_VALIDATION_TIMEOUT_SECONDS"

# The third program of the image, an init container: it alone has the credentials of a source. It brings what
# ENV_FETCH_URI names below MODEL_MOUNT and checks its digest; meanwhile it answers at READY_PATH as a server does. It
# ends with 0, or with 1 and LastWords. The other programs then get FETCHED_PREFIX and the uri, without its query, as
# theirs: they take what lies at MODEL_MOUNT. A data set for drift is brought by a second one, and lies at DRIFT_MOUNT.
# Containers of these names are known to the operator.
FETCH_COMMAND: Final = ("python", "-m", "pilothouse_runtime.fetch")
FETCH_CONTAINER: Final = "fetch"
FETCH_DRIFT_CONTAINER: Final = "fetch-drift"
ENV_FETCH_URI: Final = "PILOTHOUSE_FETCH_URI"
ENV_FETCH_DIGEST: Final = "PILOTHOUSE_FETCH_DIGEST"  # sha256:... of the file or folder; may be left out
ENV_FETCH_FIELD: Final = (
    "PILOTHOUSE_FETCH_FIELD"  # where uri and digest are in the spec, for messages; model where left out
)
# A folder that pods share, where models are kept by their digest, and the most bytes that they may take there.
ENV_FETCH_CACHE: Final = "PILOTHOUSE_FETCH_CACHE"
ENV_FETCH_CACHE_BYTES: Final = "PILOTHOUSE_FETCH_CACHE_BYTES"
ENV_NAMESPACE: Final = "PILOTHOUSE_NAMESPACE"  # which part of the folder is this pod's
FETCHED_PREFIX: Final = "fetched:"
MODEL_MOUNT: Final = "/mnt/model"
SHARED_MOUNT: Final = "/mnt/models"

CACHE_DIR: Final = "/var/cache/pilothouse"
PVC_MOUNT: Final = "/mnt/pvc"
DRIFT_MOUNT: Final = "/mnt/drift"  # what was fetched of the data set for drift, or the claim that it lies on
SAMPLES_MOUNT: Final = "/mnt/samples"
TERMINATION_LOG: Final = "/dev/termination-log"
# The kubelet keeps this many bytes of a termination message (Kubernetes, "Determine the Reason for Pod Failure").
TERMINATION_LOG_LIMIT: Final = 4096
# A pod enters fewer phases than that; a text that tells of more is not taken at its word.
_PHASES_KEPT: Final = 16
_END_OF_TIME: Final = 253402300800  # Unix seconds at the end of the year 9999

LIVE_PATH: Final = "/v2/health/live"
READY_PATH: Final = "/v2/health/ready"
METRICS_PATH: Final = "/metrics"

# Metrics at METRICS_PATH (Prometheus text format). Requests are inference requests: health, metadata and
# metrics are not counted, so that these numbers say what a model's users see.
METRIC_REQUESTS: Final = "pilothouse_requests_total"  # counter by `code`, the HTTP status
METRIC_REQUEST_SECONDS: Final = "pilothouse_request_duration_seconds"  # histogram, from headers to the answer
METRIC_IN_FLIGHT: Final = "pilothouse_requests_in_flight"  # gauge
METRIC_STAGE_SECONDS: Final = (
    "pilothouse_request_stage_duration_seconds"  # histogram by `stage`: receive, queue, model, answer
)
METRIC_BATCH_ROWS: Final = "pilothouse_batch_rows"  # histogram: rows that the model ran at once
METRIC_WAITING: Final = "pilothouse_requests_waiting"  # gauge: requests that wait for the model
METRIC_BODY_BYTES: Final = "pilothouse_body_bytes"  # gauge: bodies of requests in memory
METRIC_PHASE_SECONDS: Final = "pilothouse_phase_seconds"  # gauge by `phase`: how long each took
METRIC_WEIGHT_BYTES: Final = "pilothouse_model_weight_bytes"  # gauge
METRIC_MEMORY_LIMIT: Final = "pilothouse_memory_limit_bytes"  # gauge: what the container may use
METRIC_MEMORY_USED: Final = (
    "pilothouse_memory_used_bytes"  # gauge, where there are several workers: of that limit
)
METRIC_WORKER_RESTARTS: Final = "pilothouse_worker_restarts_total"  # counter, where there are several
METRIC_EXPLANATIONS: Final = "pilothouse_explanations_total"  # counter by `code`, where these are switched on
METRIC_EXPLANATION_SECONDS: Final = (
    "pilothouse_explanation_duration_seconds"  # histogram, from headers to answer
)
METRIC_DRIFT: Final = "pilothouse_drift"  # gauge by `tensor` and `column`: population stability index
METRIC_DRIFT_THRESHOLD: Final = "pilothouse_drift_threshold"  # gauge, the same: what it exceeds not by chance
METRIC_DRIFT_ROWS: Final = "pilothouse_drift_rows"  # gauge: rows that were compared
METRIC_SAMPLES: Final = "pilothouse_samples_total"  # counter by `outcome`: written or dropped
METRIC_LOAD_SECONDS: Final = "pilothouse_model_load_seconds"  # gauge: getting, checking, loading, warming up
METRIC_MODEL_INFO: Final = "pilothouse_model_info"  # 1, with labels model, version, revision, format
METRIC_READY: Final = "pilothouse_ready"  # 1 while new requests are welcome, else 0


class FailureReason(StrEnum):
    """Why a pod of the runtime's image gave up; the same words appear in the ModelDeployment's status."""

    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed"
    NO_SPACE = "NoSpace"  # the model does not fit where it is to be kept
    DIGEST_MISMATCH = "DigestMismatch"
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    OPTIMIZATION_FAILED = "OptimizationFailed"  # the model cannot be run that way, or answers otherwise then
    INVALID_CONFIGURATION = "InvalidConfiguration"
    VALIDATION_FAILED = (
        "ValidationFailed"  # the revision answers the data set with errors, or with other shapes
    )
    VALIDATION_NOT_DONE = "ValidationNotDone"  # the data set cannot be had or used, or nobody answers


class Phase(StrEnum):
    """The phases of a runtime pod, in the order in which it passes through them; Failed may follow any."""

    STARTING = "Starting"
    PULLING = "Pulling"  # the model file is being brought here, and its digest checked
    VERIFIED = "Verified"  # it is here, and has the digest that was asked for, if one was
    LOADING = "Loading"
    WARMING = "Warming"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


@dataclass(frozen=True)
class PhaseTime:
    """One phase that a pod has entered: since when (Unix seconds), and how long it took; None while it lasts."""

    phase: Phase
    since: float
    seconds: float | None = None


@dataclass(frozen=True)
class PodReport:
    """What a runtime pod answers at READY_PATH, with 200 while requests are welcome and 503 before and after.

    Attributes:
        message: for people, what is going on in the phase.
        history: the phases it has entered, oldest first; the last one is the one it is in.
    """

    phase: Phase
    message: str
    since: float
    history: tuple[PhaseTime, ...]

    def fields(self) -> dict[str, Any]:
        """Return the JSON object to answer with."""
        return {
            "ready": self.phase is Phase.READY,
            "state": self.phase,
            "message": self.message,
            "since": round(self.since, 3),
            "history": _written(self.history),
        }

    @staticmethod
    def decode(text: str | bytes) -> PodReport | None:
        """Return the report in an answer, or None where the answer is somebody else's."""
        try:
            data = _read(text)
            return PodReport(
                Phase(data["state"]), str(data["message"]), _number(data["since"]), _history(data["history"])
            )
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class LastWords:
    """The termination message of a runtime container.

    Attributes:
        permanent: the same pod started again must fail in the same way (a wrong digest, a file that is no model,
            a 404), so that a rollout need not wait for its deadline.
        phase: in which it failed, where that is known.
        history: the phases that it had entered by then, oldest first.
    """

    reason: FailureReason
    message: str
    permanent: bool
    phase: Phase | None = None
    history: tuple[PhaseTime, ...] = ()

    def encode(self) -> str:
        """Return the JSON text to write, shortened to what the kubelet keeps."""
        fields: dict[str, Any] = {
            "reason": self.reason,
            "message": self.message,
            "permanent": self.permanent,
        }
        if self.phase is not None:
            fields["phase"] = self.phase
        if self.history:
            fields["history"] = _written(self.history[-_PHASES_KEPT:])
        return _fitted(fields)

    @staticmethod
    def decode(text: str) -> LastWords | None:
        """Return the words in a termination message, or None where the text is somebody else's.

        What only later releases say does not matter: without it, or with it unreadable, the rest still counts.
        """
        try:
            data = _read(text)
            words = LastWords(FailureReason(data["reason"]), str(data["message"]), bool(data["permanent"]))
        except (ValueError, KeyError, TypeError):
            return None
        try:
            return replace(words, phase=Phase(data["phase"]), history=_history(data.get("history", [])))
        except (ValueError, KeyError, TypeError):
            return words


@dataclass(frozen=True)
class ValidationReport:
    """The termination message of a validation that was carried out; whether it passed is for the reader to say.

    Attributes:
        metric: what was computed, as ENV_VALIDATION_METRIC says it.
        value: what it came to; NaN where an answer held NaN or infinity, which no bound may let pass. Never infinite.
        rows: how many rows were sent and compared.
        message: for people: what was measured, and what is wrong where `value` is NaN.
    """

    metric: str
    value: float
    rows: int
    message: str

    def encode(self) -> str:
        """Return the JSON text to write, shortened to what the kubelet keeps; NaN, which JSON lacks, is null."""
        value = self.value if math.isfinite(self.value) else None
        return _fitted({"metric": self.metric, "value": value, "rows": self.rows, "message": self.message})

    @staticmethod
    def decode(text: str) -> ValidationReport | None:
        """Return the report in a termination message, or None where the text is somebody else's."""
        try:
            data = _read(text)
            value = math.nan if data["value"] is None else float(data["value"])
            value = value if math.isfinite(value) else math.nan
            return ValidationReport(str(data["metric"]), value, int(data["rows"]), str(data["message"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


def _read(text: str | bytes) -> Any:
    """Return what JSON text holds. Raises ValueError, also for one that is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _written(history: Sequence[PhaseTime]) -> list[dict[str, Any]]:
    return [
        {
            "phase": entered.phase,
            "since": round(entered.since, 3),
            "seconds": None if entered.seconds is None else round(entered.seconds, 3),
        }
        for entered in history
    ]


def _history(data: Any) -> tuple[PhaseTime, ...]:
    if not isinstance(data, list):
        raise TypeError("a history is a list")
    return tuple(
        PhaseTime(
            Phase(item["phase"]),
            _number(item["since"]),
            None if item["seconds"] is None else _number(item["seconds"]),
        )
        for item in data[:_PHASES_KEPT]
    )


def _number(value: Any) -> float:
    number = float(value)
    if not 0 <= number < _END_OF_TIME:
        raise ValueError(f"{number} is neither a time nor a duration")
    return number


def _fitted(fields: dict[str, Any]) -> str:
    """Return fields as JSON, their `message` shortened so that the kubelet keeps all of it."""
    message = fields["message"]
    while True:
        text = json.dumps(fields | {"message": message})
        excess = len(text.encode()) - TERMINATION_LOG_LIMIT
        if excess <= 0:
            return text
        # ASCII JSON spends up to six bytes on a character, so cutting by bytes may take a few rounds.
        message = message[: -max(excess // 6, 1) - 1] + "…"
