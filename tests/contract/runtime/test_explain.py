"""Explanations asked of a real server: both protocols, beside predictions, bounded, and counted apart from them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilothouse_runtime import contract
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import AFFINE_SIGNATURE, Affine, Sleeper, save_affine, save_torchscript

V2 = "/v2/models/tiny/explain"
V1 = "/v1/models/tiny:explain"
X = [[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]
# Of a linear model, whatever the method: weight x input.
FIRST = [[1.0, 4.0, 9.0], [0.0, 2.0, 0.0]]
SLOW = {**AFFINE_SIGNATURE, "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]}


def body(rows: list[list[float]] = X, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 3], "data": rows}
    return {"id": "mine", "inputs": [tensor], "parameters": parameters}


def counted(process: RuntimeProcess, name: str) -> dict[int, int]:
    """Return a counter by code."""
    page = httpx.get(f"{process.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {int(sample.labels["code"]): int(sample.value) for sample in samples if sample.name == name}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("explain")
    model = save_torchscript(Affine(), folder / "affine.pt")
    with runtime(folder, f"file://{model}", EXPLAIN="1") as started:
        started.wait_ready()
        yield started


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[RuntimeProcess]:
    """A server of a model that takes some milliseconds a run, so that its longest explanation takes seconds."""
    model = save_torchscript(Sleeper(600), tmp_path / "sleeper.pt", SLOW)
    with runtime(tmp_path, f"file://{model}", EXPLAIN="1", BATCH_MAX_SIZE="1") as started:
        started.wait_ready()
        yield started


@pytest.mark.parametrize(
    "parameters",
    [{}, {"method": "occlusion", "window": 1}, {"method": "feature_ablation"}],
    ids=lambda parameters: str(parameters.get("method", "default")),
)
@pytest.mark.parametrize("path", [V2, "/v2/models/tiny/versions/1/explain"])
def test_version_2(process: RuntimeProcess, path: str, parameters: dict[str, Any]) -> None:
    answer = httpx.post(
        process.url + path, json=body(target=0, **parameters), timeout=PATIENCE
    ).raise_for_status()
    told = answer.json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("tiny", "1", "mine")
    (attribution,) = told["outputs"]
    assert (attribution["name"], attribution["datatype"], attribution["shape"]) == ("x", "FP32", [2, 3])
    np.testing.assert_allclose(np.reshape(attribution["data"], (2, 3)), FIRST, atol=1e-5)
    delta = told["parameters"].pop("convergence_delta", None)
    method = parameters.get("method", "integrated_gradients")
    assert told["parameters"] == {"method": method, "output": "y", "target": [0, 0]}
    if method == "integrated_gradients":
        np.testing.assert_allclose(delta, [0, 0], atol=1e-5)
    else:
        assert delta is None


def test_binary_data(process: RuntimeProcess) -> None:
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}
            ],
            "parameters": {"binary_data_output": True, "target": 0},
        }
    ).encode()
    content = head + np.array(X, dtype="<f4").tobytes()
    name = "Inference-Header-Content-Length"
    answer = httpx.post(process.url + V2, content=content, headers={name: str(len(head))}, timeout=PATIENCE)
    length = int(answer.raise_for_status().headers[name])
    assert json.loads(answer.content[:length])["parameters"]["target"] == [0, 0]
    np.testing.assert_allclose(np.frombuffer(answer.content[length:], "<f4").reshape(2, 3), FIRST, atol=1e-5)


def test_version_1(process: RuntimeProcess) -> None:
    parameters = {"method": "feature_ablation", "target": [0, 0]}
    answer = httpx.post(process.url + V1, json={"instances": X, "parameters": parameters}, timeout=PATIENCE)
    told = answer.raise_for_status().json()
    np.testing.assert_allclose(told["explanations"], FIRST, atol=1e-5)
    assert {**told, "explanations": 0} == {
        "explanations": 0, "method": "feature_ablation", "output": "y", "target": [0, 0],
    }  # fmt: skip
    columns = httpx.post(
        process.url + V1, json={"inputs": {"x": X}, "parameters": parameters}, timeout=PATIENCE
    )
    np.testing.assert_allclose(columns.raise_for_status().json()["explanations"], FIRST, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "content", "status", "told"),
    [
        (
            V2,
            body(method="magic"),
            400,
            "parameters.method: 'magic' is none of integrated_gradients, occlusion",
        ),
        (V2, body(steps=0), 400, "parameters.steps: must be a whole number from 1 to 1024"),
        (
            V2,
            body(window=2),
            400,
            "parameters.window: belongs to occlusion, and the method is integrated_gradients",
        ),
        (V2, body(stepz=2), 400, "parameters.stepz: is unknown"),
        (V2, body(target=2), 400, "parameters.target: is 2; output 'y' has 2 there, from 0 to 1"),
        (V2, body(target="dog"), 400, "parameters.target: must be a class, or a list of them"),
        (V2, body(output=1), 400, "parameters.output: must be the name of an output"),
        (V2, {**body(), "outputs": [{"name": "y"}]}, 400, "outputs: every floating-point input"),
        (V2, {"inputs": []}, 400, "inputs: 'x' is missing"),
        (V2, [], 400, "must be a JSON object"),
        (V1, {"instances": X, "parameters": []}, 400, "parameters: must be an object"),
        (V1, {"instances": [[1.0]]}, 400, "input 'x': expected shape [-1, 3], got [1, 1]"),
        ("/v2/models/other/explain", body(), 404, "there is no model 'other' here"),
        ("/v2/models/tiny/versions/2/explain", body(), 404, "no version '2'"),
    ],
)
def test_what_is_wrong_is_said(
    process: RuntimeProcess, path: str, content: Any, status: int, told: str
) -> None:
    answer = httpx.post(process.url + path, json=content, timeout=PATIENCE)
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_explanations_are_counted_apart(process: RuntimeProcess) -> None:
    before = counted(process, contract.METRIC_EXPLANATIONS)
    requests = counted(process, contract.METRIC_REQUESTS)
    assert httpx.post(process.url + V2, json=body(), timeout=PATIENCE).status_code == 200
    assert httpx.post(process.url + V2, json=body(steps=0), timeout=PATIENCE).status_code == 400
    after = counted(process, contract.METRIC_EXPLANATIONS)
    assert {code: after[code] - before.get(code, 0) for code in (200, 400)} == {200: 1, 400: 1}
    assert counted(process, contract.METRIC_REQUESTS) == requests


def test_where_it_is_not_switched_on(own_server: Any) -> None:
    for path in (V2, V1):
        answer = httpx.post(own_server.url + path, json=body(), timeout=PATIENCE)
        assert answer.status_code == 404
        assert "runtime.explain: true switches them on" in answer.json()["error"]
    assert contract.METRIC_EXPLANATIONS not in httpx.get(f"{own_server.url}/metrics").text


def begin(process: RuntimeProcess, content: dict[str, Any]) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
    connection.request("POST", V2, json.dumps(content))
    return connection


def test_one_at_a_time_a_few_wait_and_predictions_go_on(slow: RuntimeProcess) -> None:
    long = body(X[:1], steps=1024, target=0)
    asked = [begin(slow, long) for _ in range(5)]
    statuses: list[int] = []

    def refused() -> bool:
        answer = httpx.post(
            slow.url + V2, json=body(X, method="feature_ablation", timeout=1_000), timeout=PATIENCE
        )
        statuses.append(answer.status_code)
        return answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1

    eventually(refused, "refused, with five before it")
    infer = httpx.post(f"{slow.url}/v2/models/tiny/infer", json=body(), timeout=PATIENCE)
    assert infer.status_code == 200
    assert set(statuses) <= {429, 504}  # not one got through
    for connection in asked:
        connection.close()
    eventually(lambda: counted(slow, contract.METRIC_EXPLANATIONS).get(499) == 5, "all five are dropped")
    # Whoever left is not worked for: the next is explained within its time.
    answer = httpx.post(slow.url + V2, json=body(X, method="feature_ablation"), timeout=PATIENCE)
    assert answer.status_code == 200


def test_a_deadline_ends_it(slow: RuntimeProcess) -> None:
    answer = httpx.post(slow.url + V2, json=body(steps=1024, timeout=300_000), timeout=PATIENCE)
    assert answer.status_code == 504
    assert "was not done in time" in answer.json()["error"]
    headers = {"x-envoy-expected-rq-timeout-ms": "300"}
    answer = httpx.post(slow.url + V2, json=body(steps=1024), headers=headers, timeout=PATIENCE)
    assert answer.status_code == 504


def test_workers_explain_too(tmp_path: Path) -> None:
    model = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{model}", EXPLAIN="1", WORKERS="2") as process:
        process.wait_ready()
        barrier, answers = threading.Barrier(4), []

        def ask() -> None:
            barrier.wait(PATIENCE)
            answers.append(httpx.post(process.url + V2, json=body(target=0), timeout=PATIENCE))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [answer.status_code for answer in answers] == [200] * 4
        for answer in answers:
            np.testing.assert_allclose(
                np.reshape(answer.json()["outputs"][0]["data"], (2, 3)), FIRST, atol=1e-5
            )
        # Whichever worker is asked tells of all.
        assert counted(process, contract.METRIC_EXPLANATIONS) == {200: 4}
