"""Triton's own client, as users have it, against our server and a model whose answers are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import (
    InferenceServerClient,
    InferenceServerException,
    InferInput,
    InferRequestedOutput,
)

from tests.contract.runtime.conftest import OipServer

VALUES = np.array([[1.5, -2.0], [0.25, 4.0], [0.0, 1.0]], dtype=np.float32)
COUNTS = np.array([2, -4, 9_007_199_254_740_993], dtype=np.int64)  # the last is no double


@pytest.fixture
def client(own_server: OipServer) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(own_server.url.removeprefix("http://"))
    yield client
    client.close()


def tensors(binary: bool) -> list[InferInput]:
    inputs = [
        InferInput("counts", [3], "INT64"),
        InferInput("values", [3, 2], "FP32"),
    ]  # not the model's order
    inputs[0].set_data_from_numpy(COUNTS, binary_data=binary)
    inputs[1].set_data_from_numpy(VALUES, binary_data=binary)
    return inputs


def wanted(scaled: bool, raised: bool) -> list[InferRequestedOutput]:
    return [
        InferRequestedOutput("raised", binary_data=raised),
        InferRequestedOutput("scaled", binary_data=scaled),
    ]


def test_health_and_metadata(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "7")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("tiny") == {
        "name": "tiny",
        "versions": ["7"],
        "platform": "pytorch_exported",
        "inputs": [
            {"name": "values", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "counts", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [
            {"name": "scaled", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "raised", "datatype": "INT64", "shape": [-1]},
        ],
    }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "outputs", [None, wanted(True, True), wanted(False, False), wanted(True, False), wanted(False, True)]
)
def test_infer(client: InferenceServerClient, binary: bool, outputs: Any) -> None:
    result = client.infer("tiny", tensors(binary), outputs=outputs, request_id="17", model_version="7")
    np.testing.assert_array_equal(result.as_numpy("raised"), COUNTS + 10)
    np.testing.assert_array_equal(result.as_numpy("scaled"), VALUES * COUNTS[:, None].astype(np.float32))
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("17", "tiny", "7")


def test_many_requests_at_once_get_their_own_answers(own_server: OipServer) -> None:
    with InferenceServerClient(own_server.url.removeprefix("http://"), concurrency=8) as client:
        sent = []
        for number in range(64):
            counts = InferInput("counts", [1], "INT64").set_data_from_numpy(np.array([number]))
            values = InferInput("values", [1, 2], "FP32").set_data_from_numpy(np.ones((1, 2), np.float32))
            sent.append(client.async_infer("tiny", [values, counts]))
        assert [request.get_result().as_numpy("raised")[0] for request in sent] == list(range(10, 74))


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "told"),
    [
        ("values", [3, 3], "FP32", "input 'values': expected shape [-1, 2], got [3, 3]"),
        ("values", [3, 2], "FP64", "input 'values': expected datatype FP32, got FP64"),
        (
            "valves",
            [3, 2],
            "FP32",
            "the model has no input 'valves'; it takes values FP32 [-1, 2], counts INT64 [-1]",
        ),
    ],
)
def test_tensors_that_do_not_fit(
    client: InferenceServerClient, name: str, shape: list[int], datatype: str, told: str
) -> None:
    dtype = np.float64 if datatype == "FP64" else np.float32
    bad = InferInput(name, shape, datatype).set_data_from_numpy(np.zeros(shape, dtype))
    with pytest.raises(InferenceServerException) as caught:
        client.infer("tiny", [tensors(True)[0], bad])
    assert caught.value.status() == "400"
    assert told in caught.value.message()


def test_batches_that_differ_between_inputs(client: InferenceServerClient) -> None:
    counts = InferInput("counts", [1], "INT64").set_data_from_numpy(np.array([1]))
    with pytest.raises(InferenceServerException, match="do not fit the model") as caught:
        client.infer("tiny", [counts, tensors(True)[1]])
    assert caught.value.status() == "400"


def test_other_models_and_versions(client: InferenceServerClient) -> None:
    for model, version in (("large", ""), ("tiny", "8")):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, tensors(True), model_version=version)
        assert caught.value.status() == "404"


def test_request_larger_than_the_limit(client: InferenceServerClient) -> None:
    values = InferInput("values", [1_000_000, 2], "FP32").set_data_from_numpy(
        np.zeros((1_000_000, 2), np.float32)
    )
    with pytest.raises(InferenceServerException, match="larger than 1,000,000 bytes") as caught:
        client.infer("tiny", [values, tensors(True)[0]])
    assert caught.value.status() == "413"
    assert client.infer("tiny", tensors(True)).as_numpy("raised")[0] == 12  # the same connection goes on
