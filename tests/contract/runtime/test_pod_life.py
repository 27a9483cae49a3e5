"""A real process from start to end: probes while it loads, load while it drains, and how it exits."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from pathlib import Path

from pilothouse_runtime import contract
from pilothouse_runtime.contract import Phase, PodReport
from tests.support.badserver import BadServer
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import Affine, Moody, Sleeper, save_torchscript

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
ONE_ROW = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}


class Client(threading.Thread):
    """Sends requests one after another over a kept-alive connection, as long as the pod says it is ready.

    It stops as a Service's endpoints do: some time after the pod said that it is not ready, not at once.
    """

    def __init__(self, process: RuntimeProcess, out_of_service: threading.Event) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._out_of_service = out_of_service
        self.statuses: list[int] = []
        self.closed = 0
        self.errors: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._process.port, timeout=PATIENCE)
        while not self._out_of_service.is_set():
            try:
                connection.request("POST", "/v2/models/tiny/infer", BODY)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.errors.append(repr(error))
                break
            self.statuses.append(response.status)
            if response.status == 200:
                assert answer["outputs"][0]["data"] == [1, 2, 3]
            self.closed += response.getheader("Connection") == "close"
        connection.close()


def test_a_connection_that_is_kept_ends_with_an_answer_and_no_request_is_lost(tmp_path: Path) -> None:
    model = save_torchscript(Sleeper(5), tmp_path / "sleeper.pt", ONE_ROW)
    with runtime(tmp_path, f"file://{model}", MAX_CONNECTION_AGE_SECONDS="0.2") as process:
        process.wait_ready()
        out_of_service = threading.Event()
        client = Client(process, out_of_service)
        client.start()
        # http.client opens a new connection after an answer that closed the one before.
        eventually(lambda: client.closed >= 5, "five connections ended")
        out_of_service.set()
        client.join(PATIENCE)
        assert client.errors == []
        assert set(client.statuses) == {200}
        assert len(client.statuses) > client.closed, "not every answer ends its connection"


def test_draining_loses_no_request(tmp_path: Path) -> None:
    model = save_torchscript(Sleeper(20), tmp_path / "sleeper.pt", ONE_ROW)
    with runtime(tmp_path, f"file://{model}", DRAIN_DELAY_SECONDS="6") as process:
        process.wait_ready()
        out_of_service = threading.Event()
        clients = [Client(process, out_of_service) for _ in range(8)]
        for client in clients:
            client.start()
        eventually(lambda: all(len(client.statuses) >= 3 for client in clients), "under load")
        process.terminate()
        eventually(lambda: process.get(contract.READY_PATH)[0] == 503, "out of readiness")
        assert process.get(contract.LIVE_PATH)[0] == 200
        assert process.get(contract.READY_PATH)[1]["state"] == "Draining"
        # Endpoints follow readiness with a delay: requests keep coming for a while, and are answered.
        before = [len(client.statuses) for client in clients]
        eventually(
            lambda: all(
                len(client.statuses) > count + 2 for client, count in zip(clients, before, strict=True)
            ),
            "answering while it drains",
        )
        out_of_service.set()
        for client in clients:
            client.join(PATIENCE)
        assert process.wait() == 0
    assert [client.errors for client in clients] == [[]] * 8
    assert {status for client in clients for status in client.statuses} == {200}
    assert all(client.closed for client in clients)  # each was told to leave
    assert process.last_words() is None


def test_what_is_in_flight_when_the_door_closes_is_finished(tmp_path: Path) -> None:
    model = save_torchscript(Sleeper(1000), tmp_path / "sleeper.pt", ONE_ROW)
    with runtime(tmp_path, f"file://{model}", DRAIN_DELAY_SECONDS="0") as process:
        process.wait_ready()
        connections = [
            http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE) for _ in range(20)
        ]
        for connection in connections:
            connection.request("POST", "/v2/models/tiny/infer", BODY)
        eventually(lambda: in_flight(process) >= 10, "busy")
        process.terminate()
        answers = [connection.getresponse() for connection in connections]
        assert [answer.status for answer in answers] == [200] * 20
        for answer, connection in zip(answers, connections, strict=True):
            assert json.loads(answer.read())["outputs"][0]["data"] == [1, 2, 3]
            connection.close()
        assert process.wait() == 0


def in_flight(process: RuntimeProcess) -> float:
    return metric(process, contract.METRIC_IN_FLIGHT)


def metric(process: RuntimeProcess, name: str) -> float:
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
    ) as connection:
        connection.request("GET", contract.METRICS_PATH)
        page = connection.getresponse().read().decode()
    values = [
        line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
    ]
    return sum(map(float, values))


def test_a_drain_is_bounded(tmp_path: Path) -> None:
    model = save_torchscript(Affine(), tmp_path / "affine.pt")
    with runtime(tmp_path, f"file://{model}", DRAIN_DELAY_SECONDS="0", DRAIN_TIMEOUT_SECONDS="1") as process:
        process.wait_ready()
        slow = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
        slow.putrequest("POST", "/v2/models/tiny/infer")
        slow.putheader("Content-Length", "100")
        slow.endheaders(b"{")  # and never more
        eventually(lambda: in_flight(process) == 1, "in flight")
        process.terminate()
        assert process.wait() == 0
        slow.close()


def test_probes_are_answered_while_the_model_does_not_come(tmp_path: Path) -> None:
    with BadServer({}) as server, runtime(tmp_path, f"{server.url}/silent/model.pt?token=secret") as process:
        process.wait_listening()
        eventually(lambda: server.counts["/silent/model.pt"] == 1, "asked")
        assert process.get(contract.LIVE_PATH) == (200, {"live": True})
        status, told = process.get(contract.READY_PATH)
        assert status == 503
        report = PodReport.decode(json.dumps(told))
        assert report is not None
        assert (told["ready"], report.phase, report.message) == (
            False,
            Phase.PULLING,
            f"asking {server.url}/silent/model.pt",
        )
        assert [entered.phase for entered in report.history] == [Phase.STARTING, Phase.PULLING]
        assert abs(report.since - time.time()) < 60
        status, told = process.get("/v2/models/tiny")
        assert status == 503
        assert told["error"].startswith("the model is not loaded yet: Pulling asking")
        assert process.get("/v2/models/tiny/ready")[0] == 503
        process.terminate()
        assert process.wait() == 0  # told to end while loading: no failure, and nothing to wait for
        assert process.last_words() is None
        assert "secret" not in json.dumps(process.lines)


def test_a_model_that_fails_on_a_request_goes_on(tmp_path: Path) -> None:
    model = save_torchscript(Moody(), tmp_path / "moody.pt", ONE_ROW)
    with runtime(tmp_path, f"file://{model}", ACCESS_LOG="1") as process:
        process.wait_ready()
        statuses = []
        for first in (1, -1, 1):
            connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
            connection.request(
                "POST", "/v2/models/tiny/infer", BODY.replace("[1, 2, 3]}", f"[{first}, 2, 3]}}")
            )
            response = connection.getresponse()
            statuses.append(response.status)
            told = json.loads(response.read())
            if first < 0:
                assert "the model failed" in told["error"]
                assert "I do not like negative numbers" in told["error"]
            connection.close()
        assert statuses == [200, 500, 200]
        assert metric(process, contract.METRIC_REQUESTS) == 3
        assert metric(process, contract.METRIC_REQUEST_SECONDS + "_count") == 3
        assert metric(process, contract.METRIC_READY) == 1
        assert metric(process, contract.METRIC_MODEL_INFO) == 1
        assert metric(process, contract.METRIC_LOAD_SECONDS) > 0

        def told_of() -> list[tuple[str, int]]:
            return [(line["path"], line["status"]) for line in process.lines if line["msg"] == "request"]

        eventually(lambda: len(told_of()) == 3, "logged")  # lines are written some at a time
        assert told_of() == [("/v2/models/tiny/infer", status) for status in statuses]


def test_a_model_without_a_signature_takes_inputs_as_they_come(tmp_path: Path) -> None:
    model = save_torchscript(Affine(), tmp_path / "bare.pt", None)
    with runtime(tmp_path, f"file://{model}") as process:
        process.wait_ready()
        told = process.get("/v2/models/tiny")[1]
        assert (told["inputs"], told["outputs"]) == ([], [])
        assert any("no warm-up" in line["msg"] for line in process.lines)
        for body in (BODY, BODY.replace("[1, 3]", "[3]")):
            assert post(process, body)[0] == 200
        status, told = post(process, BODY.replace("[1, 3]", "[1, 2]").replace("[1, 2, 3]", "[1, 2]"))
        assert status == 400
        assert "do not fit the model" in told["error"]


def post(process: RuntimeProcess, body: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
    connection.request("POST", "/v2/models/tiny/infer", body)
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    return response.status, told


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    model = save_torchscript(Sleeper(1000), tmp_path / "sleeper.pt", ONE_ROW)
    with runtime(tmp_path, f"file://{model}", BATCH_MAX_SIZE="1") as process:  # or all would go as a few
        process.wait_ready()
        connections = [
            http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE) for _ in range(200)
        ]
        for connection in connections:
            connection.request("POST", "/v2/models/tiny/infer", BODY)
        answers = [connection.getresponse() for connection in connections]
        assert {answer.status for answer in answers} == {200, 429}
        # The seconds that those who wait already will take, on any machine.
        retries = {answer.getheader("Retry-After") for answer in answers if answer.status == 429}
        assert all(1 <= int(retry or 0) <= 60 for retry in retries)
        for connection in connections:
            connection.close()
        assert post(process, BODY)[0] == 200
