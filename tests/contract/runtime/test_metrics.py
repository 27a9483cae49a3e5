"""What a rollout is judged by: every request is in the counter and in the histogram, whatever became of it."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from pilothouse_runtime import contract
from pilothouse_runtime.serve.metrics import BUCKETS
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import AFFINE_SIGNATURE, Moody, Sleeper, save_exported, save_torchscript

SIGNATURE = {
    "inputs": AFFINE_SIGNATURE["inputs"],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}
INFER = "/v2/models/tiny/infer"


def body(first: float) -> str:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [first, 2, 3]}]})


def send(process: RuntimeProcess, content: str, path: str = INFER) -> http.client.HTTPConnection:
    """Send a request, for whose answer the caller may wait or not."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
    connection.request("POST", path, content)
    return connection


def answer(connection: http.client.HTTPConnection) -> int:
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


class Page:
    """One scrape: requests by code, the histogram by upper bound (how many took at most so long), and in flight."""

    def __init__(self, process: RuntimeProcess) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
        connection.request("GET", contract.METRICS_PATH)
        page = connection.getresponse().read().decode()
        connection.close()
        self.codes: Counter[int] = Counter()
        self.buckets: dict[float, float] = {}
        self.in_flight = 0.0
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == contract.METRIC_REQUESTS:
                    self.codes[int(sample.labels["code"])] += int(sample.value)
                elif sample.name == f"{contract.METRIC_REQUEST_SECONDS}_bucket":
                    self.buckets[float(sample.labels["le"])] = sample.value
                elif sample.name == contract.METRIC_IN_FLIGHT:
                    self.in_flight = sample.value


def test_whatever_becomes_of_a_request_it_is_counted_and_timed(tmp_path: Path) -> None:
    model = save_torchscript(Moody(), tmp_path / "moody.pt", SIGNATURE)
    with runtime(tmp_path, f"file://{model}", MAX_REQUEST_BYTES="1000") as process:
        process.wait_ready()
        requests = [
            (body(1), INFER, 200),
            (body(1), INFER, 200),
            (body(-1), INFER, 500),
            ("no json", INFER, 400),
            (body(1).replace("[1, 3]", "[3, 1]"), INFER, 400),
            (body(1) + 1000 * " ", INFER, 413),
            (body(1), "/v2/models/nobody/infer", 404),
            (body(1), "/v2/models/tiny/versions/9/infer", 404),
        ]
        for content, path, status in requests:
            assert answer(send(process, content, path)) == status
        page = Page(process)
    assert page.codes == Counter(status for *_, status in requests)
    assert page.buckets[float("inf")] == len(requests)
    assert list(page.buckets) == [*BUCKETS, float("inf")]
    assert page.in_flight == 0


def test_refused_ones_and_those_whose_client_has_left(tmp_path: Path) -> None:
    model = save_torchscript(Sleeper(1000), tmp_path / "sleeper.pt", SIGNATURE)
    with runtime(tmp_path, f"file://{model}", BATCH_MAX_SIZE="1") as process:  # or all would go as a few
        process.wait_ready()
        gone = send(process, body(1))
        gone.close()  # in the middle of it: the model does not know, and finishes
        statuses = [answer(c) for c in [send(process, body(1)) for _ in range(200)]]
        eventually(lambda: Page(process).in_flight == 0, "idle")
        page = Page(process)
    seen = Counter(statuses)
    assert seen.keys() == {200, 429}
    assert page.codes[429] == seen[429]
    # Whether the one that left had sent all of its request by then is up to the network.
    assert page.codes[200] + page.codes[499] == seen[200] + 1
    assert page.buckets[float("inf")] == page.codes.total() == 201


@pytest.mark.parametrize("format_", ["torchscript", "exported"])
def test_a_scrape_does_not_wait_for_the_model(tmp_path: Path, format_: str) -> None:
    sleeper = Sleeper(20, size=512)  # few operators, each of them long
    if format_ == "torchscript":
        model = save_torchscript(sleeper, tmp_path / "sleeper.pt", SIGNATURE)
    else:
        model = save_exported(sleeper, tmp_path / "sleeper.pt2", (torch.zeros(1, 3),), None)
    with runtime(
        tmp_path, f"file://{model}", BATCH_MAX_SIZE="1"
    ) as process:  # twenty runs, one after another
        process.wait_ready()
        connections = [send(process, body(1)) for _ in range(20)]
        eventually(lambda: Page(process).in_flight >= 15, "busy")
        pages = [Page(process) for _ in range(5)]
        # Five answers, each of which has come before the last prediction; most likely before the sixth.
        assert all(page.in_flight > 0 for page in pages)
        assert [answer(connection) for connection in connections] == [200] * 20
        page = Page(process)
    assert page.buckets[float("inf")] == page.codes[200] == 20
