"""HTTP where requests are wrong in their outside, not in their tensors."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

import httpx
import pytest

from pilothouse_runtime import contract
from tests.contract.runtime.conftest import OipServer
from tests.support.runtime_process import eventually

INFER = "/v2/models/tiny/infer"
LIMIT = 1_000_000
ZEROS = json.dumps(
    {
        "inputs": [
            {"name": "values", "datatype": "FP32", "shape": [2, 2], "data": [0, 0, 0, 0]},
            {"name": "counts", "datatype": "INT64", "shape": [2], "data": [0, 0]},
        ]
    }
).encode()


@pytest.fixture
def http(own_server: OipServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=own_server.url, timeout=60) as client:
        yield client


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 10_000):
        yield b" " * 10_000


def test_bodies_without_an_announced_length_are_limited_too(http: httpx.Client) -> None:
    response = http.post(INFER, content=chunks(2 * LIMIT))
    assert response.status_code == 413
    assert "send smaller batches" in response.json()["error"]
    assert http.post(INFER, content=chunks(LIMIT // 2)).status_code == 400  # read, and found to be no JSON


def test_encodings_that_are_not_read(http: httpx.Client) -> None:
    response = http.post(INFER, content=b"x", headers={"Content-Encoding": "br"})
    assert response.status_code == 415
    told = "Content-Encoding: 'br' is not read here; send gzip, deflate or plain bodies"
    assert response.json()["error"] == told


def test_compressed_bodies(http: httpx.Client) -> None:
    for encoding, content in (("gzip", gzip.compress(ZEROS)), ("deflate", zlib.compress(ZEROS))):
        response = http.post(INFER, content=content, headers={"Content-Encoding": encoding})
        assert response.status_code == 200, response.text
        assert response.json()["outputs"][1]["data"] == [10, 10]
        broken = http.post(INFER, content=content[:-3], headers={"Content-Encoding": encoding})
        assert (broken.status_code, "ends too early" in broken.json()["error"]) == (400, True)


def test_a_body_that_is_small_only_while_it_is_compressed(http: httpx.Client) -> None:
    bomb = gzip.compress(b" " * (100 * LIMIT))
    assert len(bomb) < LIMIT
    response = http.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413
    assert "once it is decompressed" in response.json()["error"]


def test_answers_are_compressed_for_those_who_ask(http: httpx.Client) -> None:
    rows = 500
    inputs = [
        {"name": "values", "datatype": "FP32", "shape": [rows, 2], "data": [1.5] * 2 * rows},
        {"name": "counts", "datatype": "INT64", "shape": [rows], "data": [3] * rows},
    ]
    plain = http.post(INFER, json={"inputs": inputs}, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    small = http.post(INFER, json={"inputs": inputs}, headers={"Accept-Encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 10
    assert small.json() == plain.json()


def test_other_methods(http: httpx.Client) -> None:
    response = http.get(INFER)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert response.json()["error"].startswith(f"GET {INFER}: Method Not Allowed")


def test_metrics_count_what_users_see(http: httpx.Client) -> None:
    def counted(code: int) -> float:
        wanted = f'{contract.METRIC_REQUESTS}{{code="{code}"}}'
        lines = http.get(contract.METRICS_PATH).raise_for_status().text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(wanted))

    before = counted(400), counted(404), counted(503)
    http.post(INFER, content=b"no json")
    http.post("/v2/models/nobody/infer", json={})
    http.get("/v2/models/nobody")
    http.get(contract.READY_PATH)
    assert (counted(400), counted(404), counted(503)) == (before[0] + 1, before[1] + 1, before[2])


def test_metrics_in_the_format_asked_for(http: httpx.Client) -> None:
    plain = http.get(contract.METRICS_PATH)
    assert plain.headers["content-type"].startswith("text/plain")
    openmetrics = http.get(contract.METRICS_PATH, headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


def test_a_client_that_leaves_is_no_failure_of_the_server(http: httpx.Client, own_server: OipServer) -> None:
    def left() -> float:
        lines = http.get(contract.METRICS_PATH).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'total{code="499"}' in line)

    before = left()
    with httpx.Client(base_url=own_server.url) as client:

        def half() -> Iterator[bytes]:
            yield b"{"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            client.post(INFER, content=half())
    eventually(lambda: left() == before + 1, "counted as left")
