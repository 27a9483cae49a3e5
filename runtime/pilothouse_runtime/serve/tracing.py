"""OpenTelemetry traces of inference requests, where the environment asks for them.

The standard variables decide: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT turns traces on (they
go there over HTTP, as protobuf), OTEL_TRACES_SAMPLER says which, OTEL_SERVICE_NAME under which name, OTEL_SDK_DISABLED
turns them off (OpenTelemetry, "Environment Variable Specification"). Without an endpoint nothing of it is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pilothouse_runtime.core.errors import Code
from pilothouse_runtime.core.settings import Settings
from pilothouse_runtime.serve.calls import Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVERS_FAULT: Final = 500


def asked_for(environ: Mapping[str, str]) -> bool:
    """Say whether the environment asks for traces."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(environ.get(name) for name in _ENDPOINTS)


class Tracing:
    """Makes a span of every call, with spans of its wait and of its run below it.

    A call's span goes under the one that its `traceparent` names (W3C Trace Context). The spans are made when the call
    has ended, from the times that it carries: so nothing of this is in the way of an answer.

    Args:
        provider: where spans go.
        offset: Unix seconds less monotonic seconds.
    """

    def __init__(self, provider: TracerProvider, settings: Settings, offset: float) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("pilothouse-runtime")
        self._trace = trace
        self._extract: Callable[..., Any] = TraceContextTextMapPropagator().extract
        self._offset = offset
        self._name = f"infer {settings.model_name}"
        self._model = {
            "pilothouse.model": settings.model_name,
            "pilothouse.version": settings.version,
            "pilothouse.revision": settings.revision,
        }

    @classmethod
    def from_environment(cls, settings: Settings) -> Tracing:
        """Return what exports to the endpoint that the environment names; spans leave in a thread, some at a time."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # The environment's own OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before ours.
        resource = Resource({SERVICE_NAME: settings.model_name}).merge(_environments_resource())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider, settings, time.time() - time.monotonic())

    def observe(self, call: Call, now: float) -> None:
        """Take note of a call that ended at `now`, in monotonic seconds."""
        context = self._extract({"traceparent": call.traceparent}) if call.traceparent else None
        span = self._tracer.start_span(
            self._name,
            context=context,
            kind=self._trace.SpanKind.SERVER,
            start_time=self._nanoseconds(call.started),
            attributes={
                **self._model,
                "network.protocol.name": call.protocol,
                "url.path": call.path,
                "http.response.status_code": call.code,
                "http.request.body.size": call.received,
                "http.response.body.size": call.sent,
            },
        )
        if span.is_recording():
            if call.code >= _SERVERS_FAULT or call.code == Code.RESOURCE_EXHAUSTED:
                span.set_status(self._trace.StatusCode.ERROR, call.error)
            job = call.job
            if job is not None and job.ended:
                below = self._trace.set_span_in_context(span)
                self._part("queue", below, job.arrived, job.started, {})
                self._part("model", below, job.started, job.ended, {"pilothouse.batch": job.batch})
        span.end(self._nanoseconds(now))

    def _part(self, name: str, below: Any, started: float, ended: float, attributes: dict[str, int]) -> None:
        part = self._tracer.start_span(
            name, context=below, start_time=self._nanoseconds(started), attributes=attributes
        )
        part.end(self._nanoseconds(ended))

    def flush(self) -> None:
        """Send what has not been sent, within some seconds."""
        self._provider.force_flush(2000)

    def _nanoseconds(self, monotonic: float) -> int:
        return int((monotonic + self._offset) * 1e9)


def _environments_resource() -> Any:
    from opentelemetry.sdk.resources import OTELResourceDetector

    return OTELResourceDetector().detect()
