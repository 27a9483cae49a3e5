"""Version 1 of the prediction protocol over HTTP, as TensorFlow Serving and KServe have it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.contract.runtime.conftest import OipServer
from tests.support.runtime_process import runtime
from tests.support.tiny_models import Affine, save_torchscript

ROWS = {"instances": [{"values": [1, 2], "counts": 3}, {"values": [0.5, 0], "counts": -1}]}
COLUMNS = {"inputs": {"counts": [3, -1], "values": [[1, 2], [0.5, 0]]}}


@pytest.fixture
def client(own_server: OipServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=own_server.url) as client:
        yield client


def predict(client: httpx.Client, document: Any, model: str = "tiny") -> tuple[int, Any]:
    answer = client.post(f"/v1/models/{model}:predict", json=document)
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()


def test_rows_and_columns(client: httpx.Client) -> None:
    assert predict(client, ROWS) == (
        200,
        {"predictions": [{"scaled": [3, 6], "raised": 13}, {"scaled": [-0.5, 0], "raised": 9}]},
    )
    assert predict(client, COLUMNS | {"signature_name": "serving_default"}) == (
        200,
        {"outputs": {"scaled": [[3, 6], [-0.5, 0]], "raised": [13, 9]}},
    )


def test_numbers_are_those_of_version_2(client: httpx.Client) -> None:
    """The shortest texts that say the float32 that the model gave; null where it gave no number."""
    document = {"inputs": {"counts": [1, 100], "values": [[0.1, 0.7], [1, 3e38]]}}
    answer = client.post("/v1/models/tiny:predict", json=document)
    assert '"scaled":[[0.1,0.7],[100.0,null]]' in answer.text


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "the request must have one of instances (rows) and inputs (columns)"),
        ({"instances": [1]}, "instances[0]: must be an object with values, counts; got a number"),
        ({"inputs": {"values": [[1, 2]]}}, "inputs: must be an object with values, counts; got values"),
        (
            {"inputs": {"counts": [1], "values": [[1, 2, 3]]}},
            "input 'values': expected shape [-1, 2], got [1, 3]",
        ),
    ],
)
def test_requests_that_are_wrong(client: httpx.Client, document: Any, told: str) -> None:
    status, answer = predict(client, document)
    assert status == 400
    assert told in answer["error"]


def test_which_models_there_are(client: httpx.Client) -> None:
    assert client.get("/v1/models").json() == {"models": ["tiny"]}
    assert client.get("/v1/models/tiny").json() == {"name": "tiny", "ready": True}
    assert client.get("/v1/models/large").status_code == 404
    assert predict(client, ROWS, "large")[0] == 404
    assert client.get("/v1/models/tiny:predict").status_code == 405


def test_connections_are_kept(own_server: OipServer) -> None:
    place = urlsplit(own_server.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    for _ in range(3):
        connection.request("POST", "/v1/models/tiny:predict", json.dumps(ROWS))
        assert len(json.loads(connection.getresponse().read())["predictions"]) == 2
    connection.close()


def test_one_input_one_output_and_no_signature(tmp_path: Path) -> None:
    model = save_torchscript(Affine(), tmp_path / "affine.pt")
    with runtime(tmp_path, f"file://{model}") as process:
        process.wait_ready()
        with httpx.Client(base_url=process.url) as client:
            for instances in ([[1, 1, 1], [0, 0, 0]], [{"x": [1, 1, 1]}, {"x": [0, 0, 0]}]):
                assert predict(client, {"instances": instances}) == (
                    200,
                    {"predictions": [[6.5, -0.5], [0.5, -0.5]]},
                )
            assert predict(client, {"inputs": [[1, 1, 1]]}) == (200, {"outputs": [[6.5, -0.5]]})
    bare = save_torchscript(Affine(), tmp_path / "bare.pt", None)
    with runtime(tmp_path, f"file://{bare}") as process:
        process.wait_ready()
        with httpx.Client(base_url=process.url) as client:
            status, answer = predict(client, {"instances": [[1, 1, 1]]})
    assert status == 400
    assert "use version 2" in answer["error"]
