"""The Prometheus metrics of one server; their names are in `contract`."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pilothouse_runtime import contract
from pilothouse_runtime.core.predictor import ModelDescription
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.core.states import Readiness

# Bounds in seconds, by the E6 series of preferred numbers (IEC 60063) from 1 ms to 1 s: the bounds on either side of a
# percentile are at most 1.5 times apart, so that read by interpolation it is off by less than half. Coarser beyond.
BUCKETS: Final = (
    *(0.001, 0.0015, 0.0022, 0.0033, 0.0047, 0.0068),
    *(0.01, 0.015, 0.022, 0.033, 0.047, 0.068),
    *(0.1, 0.15, 0.22, 0.33, 0.47, 0.68),
    *(1.0, 2.2, 4.7, 10.0, 30.0),
)


class Metrics:
    """Counts and times inference requests, and tells about the model."""

    def __init__(self, readiness: Readiness) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            contract.METRIC_REQUESTS, "Inference requests by HTTP status.", ["code"], registry=self._registry
        )
        self.seconds = Histogram(
            contract.METRIC_REQUEST_SECONDS,
            "Seconds from the headers of an inference request to its answer.",
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            contract.METRIC_IN_FLIGHT, "Inference requests not answered yet.", registry=self._registry
        )
        self._load_seconds = Gauge(
            contract.METRIC_LOAD_SECONDS,
            "Seconds it took to get, check, load and warm up the model.",
            registry=self._registry,
        )
        self._info = Gauge(
            contract.METRIC_MODEL_INFO,
            "The model that is loaded.",
            ["model", "version", "revision", "format"],
            registry=self._registry,
        )
        ready = Gauge(contract.METRIC_READY, "Whether new requests are welcome.", registry=self._registry)
        ready.set_function(lambda: float(readiness.state.ready))
        ProcessCollector(registry=self._registry)

    def loaded(self, settings: Settings, model: ModelDescription, seconds: float) -> None:
        """Tell what was loaded and how long it took."""
        self._load_seconds.set(seconds)
        self._info.labels(settings.model_name, settings.version, settings.revision, model.format).set(1)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
