"""What the operator and a runtime pod agree on: names, ports, paths and the words a pod dies with.

Standard library only: this is the one module of the runtime that the operator imports, and the
operator's image holds no torch.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

HTTP_PORT: Final = 8080
HTTP_PORT_NAME: Final = "http"

# Environment of the serving container, set by the operator. Values are text; SIGNATURE is JSON:
# {"inputs": [{"name", "datatype", "shape"}], "outputs": [...]}, shapes as in the Open Inference Protocol.
ENV_PREFIX: Final = "PILOTHOUSE_"
ENV_MODEL_NAME: Final = "PILOTHOUSE_MODEL_NAME"
ENV_MODEL_URI: Final = "PILOTHOUSE_MODEL_URI"
ENV_MODEL_VERSION: Final = "PILOTHOUSE_MODEL_VERSION"
ENV_MODEL_DIGEST: Final = "PILOTHOUSE_MODEL_DIGEST"
ENV_MODEL_FORMAT: Final = "PILOTHOUSE_MODEL_FORMAT"
ENV_MODEL_SIGNATURE: Final = "PILOTHOUSE_MODEL_SIGNATURE"
ENV_DEVICE: Final = "PILOTHOUSE_DEVICE"
ENV_REVISION: Final = "PILOTHOUSE_REVISION"
# Seconds after SIGTERM for which the server still takes requests while it already says "not ready",
# so that endpoints can propagate, and the most it then waits for what is in flight.
ENV_DRAIN_DELAY: Final = "PILOTHOUSE_DRAIN_DELAY_SECONDS"
ENV_DRAIN_TIMEOUT: Final = "PILOTHOUSE_DRAIN_TIMEOUT_SECONDS"
# The largest body of one request, in bytes; a larger one is answered with 413.
ENV_MAX_REQUEST_BYTES: Final = "PILOTHOUSE_MAX_REQUEST_BYTES"
# Seconds after which an answer ends its connection, so that clients spread over the pods anew; 0 is never.
ENV_MAX_CONNECTION_AGE: Final = "PILOTHOUSE_MAX_CONNECTION_AGE_SECONDS"
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

CACHE_DIR: Final = "/var/cache/pilothouse"
PVC_MOUNT: Final = "/mnt/pvc"
TERMINATION_LOG: Final = "/dev/termination-log"
# The kubelet keeps this many bytes of a termination message (Kubernetes, "Determine the Reason for Pod Failure").
TERMINATION_LOG_LIMIT: Final = 4096

LIVE_PATH: Final = "/v2/health/live"
READY_PATH: Final = "/v2/health/ready"
METRICS_PATH: Final = "/metrics"

# Metrics at METRICS_PATH (Prometheus text format). Requests are inference requests: health, metadata and
# metrics are not counted, so that these numbers say what a model's users see.
METRIC_REQUESTS: Final = "pilothouse_requests_total"  # counter by `code`, the HTTP status
METRIC_REQUEST_SECONDS: Final = "pilothouse_request_duration_seconds"  # histogram, from headers to the answer
METRIC_IN_FLIGHT: Final = "pilothouse_requests_in_flight"  # gauge
METRIC_LOAD_SECONDS: Final = "pilothouse_model_load_seconds"  # gauge: getting, checking, loading, warming up
METRIC_MODEL_INFO: Final = "pilothouse_model_info"  # 1, with labels model, version, revision, format
METRIC_READY: Final = "pilothouse_ready"  # 1 while new requests are welcome, else 0


class FailureReason(StrEnum):
    """Why a pod of the runtime's image gave up; the same words appear in the ModelDeployment's status."""

    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed"
    DIGEST_MISMATCH = "DigestMismatch"
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    INVALID_CONFIGURATION = "InvalidConfiguration"
    VALIDATION_FAILED = (
        "ValidationFailed"  # the revision answers the data set with errors, or with other shapes
    )
    VALIDATION_NOT_DONE = "ValidationNotDone"  # the data set cannot be had or used, or nobody answers


@dataclass(frozen=True)
class LastWords:
    """The termination message of a runtime container.

    `permanent` says that the same pod started again must fail in the same way (a wrong digest, a
    file that is no model, a 404), so that a rollout need not wait for its deadline.
    """

    reason: FailureReason
    message: str
    permanent: bool

    def encode(self) -> str:
        """Return the JSON text to write, shortened to what the kubelet keeps."""
        return _fitted({"reason": self.reason, "message": self.message, "permanent": self.permanent})

    @staticmethod
    def decode(text: str) -> LastWords | None:
        """Return the words in a termination message, or None where the text is somebody else's."""
        try:
            data = json.loads(text)
            return LastWords(FailureReason(data["reason"]), str(data["message"]), bool(data["permanent"]))
        except (ValueError, KeyError, TypeError):
            return None


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
            data = json.loads(text)
            value = math.nan if data["value"] is None else float(data["value"])
            value = value if math.isfinite(value) else math.nan
            return ValidationReport(str(data["metric"]), value, int(data["rows"]), str(data["message"]))
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


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
