"""What the Open Inference Protocol v2 asks of any server, on any model: names and shapes come from its metadata."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.contract.runtime.conftest import OipServer

_JSON_ZERO = {"BOOL": False, "BYTES": ""}


@pytest.fixture
def http(oip_server: OipServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=oip_server.url, timeout=60) as client:
        yield client


@pytest.fixture
def path(oip_server: OipServer) -> str:
    return f"/v2/models/{oip_server.model}"


@pytest.fixture
def zeros(http: httpx.Client, path: str) -> list[dict[str, Any]]:
    """One request's inputs, all zeros, free dimensions of size 2."""
    inputs = []
    for spec in http.get(path).raise_for_status().json()["inputs"]:
        shape = [2 if size == -1 else size for size in spec["shape"]]
        data = [_JSON_ZERO.get(spec["datatype"], 0)] * int(np.prod(shape))
        inputs.append({"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data})
    return inputs


def test_health(http: httpx.Client, path: str) -> None:
    for place in ("/v2/health/live", "/v2/health/ready", f"{path}/ready"):
        assert http.get(place).status_code == 200, place


def test_server_metadata(http: httpx.Client) -> None:
    told = http.get("/v2").raise_for_status().json()
    assert isinstance(told["name"], str)
    assert isinstance(told["version"], str)
    assert all(isinstance(extension, str) for extension in told["extensions"])


def test_model_metadata(http: httpx.Client, oip_server: OipServer, path: str) -> None:
    told = http.get(path).raise_for_status().json()
    assert told["name"] == oip_server.model
    assert isinstance(told["platform"], str)
    for spec in told["inputs"] + told["outputs"]:
        assert set(spec) >= {"name", "datatype", "shape"}
        assert all(type(size) is int for size in spec["shape"])


def test_infer_answers_with_every_output(http: httpx.Client, path: str, zeros: list[dict[str, Any]]) -> None:
    answer = http.post(f"{path}/infer", json={"id": "a", "inputs": zeros}).raise_for_status().json()
    outputs = {spec["name"]: spec for spec in http.get(path).json()["outputs"]}
    assert answer["id"] == "a"
    assert {output["name"] for output in answer["outputs"]} == set(outputs)
    for output in answer["outputs"]:
        spec = outputs[output["name"]]
        assert output["datatype"] == spec["datatype"]
        assert [want in (-1, got) for want, got in zip(spec["shape"], output["shape"], strict=True)]
        assert len(output["data"]) == np.prod(output["shape"])


def test_infer_answers_with_the_outputs_asked_for(
    http: httpx.Client, path: str, zeros: list[dict[str, Any]]
) -> None:
    for spec in http.get(path).json()["outputs"]:
        wanted = [{"name": spec["name"]}]
        answer = (
            http.post(f"{path}/infer", json={"inputs": zeros, "outputs": wanted}).raise_for_status().json()
        )
        assert [output["name"] for output in answer["outputs"]] == [spec["name"]]


def test_data_may_be_nested_like_the_shape(
    http: httpx.Client, path: str, zeros: list[dict[str, Any]]
) -> None:
    nested = [{**z, "data": np.reshape(z["data"], z["shape"]).tolist()} for z in zeros]
    answers = [
        http.post(f"{path}/infer", json={"inputs": i}).raise_for_status().json() for i in (zeros, nested)
    ]
    assert answers[0]["outputs"] == answers[1]["outputs"]


def test_versions(http: httpx.Client, path: str, zeros: list[dict[str, Any]]) -> None:
    for version in http.get(path).json().get("versions", []):
        assert http.get(f"{path}/versions/{version}").status_code == 200
        assert http.get(f"{path}/versions/{version}/ready").status_code == 200
        answer = (
            http.post(f"{path}/versions/{version}/infer", json={"inputs": zeros}).raise_for_status().json()
        )
        assert answer["model_version"] == version


@pytest.mark.parametrize(
    ("place", "method"),
    [("/v2/models/nobody", "GET"), ("/v2/models/nobody/infer", "POST"), ("/v2/no/such", "GET")],
)
def test_unknown_places(http: httpx.Client, place: str, method: str) -> None:
    response = http.request(method, place, json={"inputs": []} if method == "POST" else None)
    assert response.status_code == 404
    assert isinstance(response.json()["error"], str)


def test_errors_are_told_in_json(http: httpx.Client, path: str, zeros: list[dict[str, Any]]) -> None:
    broken: list[Any] = [
        {"inputs": zeros[1:]},
        {"inputs": [{**zeros[0], "name": "nobody"}, *zeros[1:]]},
        {"inputs": [{**zeros[0], "datatype": "NONSENSE"}, *zeros[1:]]},
        {"inputs": [{**zeros[0], "data": zeros[0]["data"][1:]}, *zeros[1:]]},
        {"inputs": zeros, "outputs": [{"name": "nobody"}]},
        {"inputs": "text"},
        [],
    ]
    for request in broken:
        response = http.post(f"{path}/infer", json=request)
        assert 400 <= response.status_code < 500, request
        assert isinstance(response.json()["error"], str)
    response = http.post(f"{path}/infer", content=b"no json")
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)
