"""Spans of a real process, as a collector gets them over OTLP."""

from __future__ import annotations

import http.client
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.runtime_process import PATIENCE, runtime
from tests.support.tiny_models import save_affine

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'


class Collector(ThreadingHTTPServer):
    """Takes spans at /v1/traces, each with the name that its service gave itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: queue.Queue[tuple[str, Span]] = queue.Queue()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            names = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.server.spans.put((names[0], span))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        """Write nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_below_its_callers(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
    model = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{model}") as process:
        process.wait_ready()
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        connection.request("POST", "/v2/models/tiny/infer", BODY, headers)
        assert connection.getresponse().read()
        connection.close()
        got = [collector.spans.get(timeout=PATIENCE) for _ in range(3)]
    assert {service for service, _ in got} == {"tiny"}
    spans = {span.name: span for _, span in got}
    assert spans.keys() == {"infer tiny", "queue", "model"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    whole = spans["infer tiny"]
    assert whole.parent_span_id.hex() == PARENT
    for part in (spans["queue"], spans["model"]):
        assert part.parent_span_id == whole.span_id
        assert whole.start_time_unix_nano <= part.start_time_unix_nano
        assert part.end_time_unix_nano <= whole.end_time_unix_nano


def test_a_collector_that_is_not_there_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    model = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{model}", DRAIN_DELAY_SECONDS="0") as process:
        process.wait_ready()
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
            connection.request("POST", "/v2/models/tiny/infer", BODY)
            assert connection.getresponse().status == 200
            connection.close()
        process.terminate()
        assert process.wait() == 0
