"""Traces: on where the standard variables ask for them, and spans that say what became of a call."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pilothouse_runtime import contract
from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.tracing import Tracing, asked_for

SETTINGS = read_settings(
    {
        contract.ENV_MODEL_NAME: "digits",
        contract.ENV_MODEL_URI: "file:///digits.pt",
        contract.ENV_MODEL_VERSION: "7",
        contract.ENV_REVISION: "digits-5d8f",
    }
)
OFFSET = 1_048_576.0
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_when_traces_are_on(environment: dict[str, str], asked: bool) -> None:
    assert asked_for(environment) is asked


def traced(call: Call, ended: float) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    Tracing(provider, SETTINGS, OFFSET).observe(call, ended)
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_call_that_was_answered() -> None:
    call = Call("rest", 10.0, "/v2/models/digits/infer")
    call.traceparent, call.code = PARENT, 200
    call.job = job = Job((), lambda result: None)
    job.arrived, job.started, job.ended, job.batch = 10.25, 10.5, 10.75, 4
    spans = traced(call, 11.0)
    assert spans.keys() == {"infer digits", "queue", "model"}
    whole = spans["infer digits"]
    assert whole.context.trace_id == int(PARENT.split("-")[1], 16)
    assert whole.parent is not None
    assert whole.parent.span_id == int(PARENT.split("-")[2], 16)
    assert whole.kind is SpanKind.SERVER
    assert whole.attributes is not None
    assert whole.attributes["pilothouse.revision"] == "digits-5d8f"
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.status.status_code is StatusCode.UNSET
    times = {
        name: ((span.start_time or 0) / 1e9 - OFFSET, (span.end_time or 0) / 1e9 - OFFSET)
        for name, span in spans.items()
    }
    assert times == {"infer digits": (10.0, 11.0), "queue": (10.25, 10.5), "model": (10.5, 10.75)}
    for part in ("queue", "model"):
        parent = spans[part].parent
        assert parent is not None
        assert parent.span_id == whole.context.span_id
    assert (spans["model"].attributes or {})["pilothouse.batch"] == 4


@pytest.mark.parametrize(("code", "status"), [(400, StatusCode.UNSET), (500, StatusCode.ERROR)])
def test_a_call_that_failed(code: int, status: StatusCode) -> None:
    call = Call("grpc", 10.0)
    call.code, call.error = code, "what was wrong"
    spans = traced(call, 10.5)
    assert spans.keys() == {"infer digits"}
    assert spans["infer digits"].parent is None
    assert spans["infer digits"].status.status_code is status


def test_whom_the_caller_does_not_sample_is_not_traced() -> None:
    call = Call("rest", 10.0)
    call.traceparent, call.code = PARENT[:-1] + "0", 200
    assert traced(call, 10.5) == {}
