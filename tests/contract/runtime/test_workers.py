"""Several processes that serve one model: right answers, weights in memory once, and a death that costs little."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason, Phase, PodReport
from tests.contract.runtime.test_pod_life import BODY, ONE_ROW, Client, metric
from tests.support.badserver import BadServer
from tests.support.processes import descendants, ended, private_bytes, served_by
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import Sleeper, save_exported, save_torchscript

MIB = 1 << 20
SIDE = 7168  # of a square of weights: some 196 MiB


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The uri of a model that takes a millisecond or two."""
    file = save_torchscript(Sleeper(50), tmp_path_factory.mktemp("model") / "sleeper.pt", ONE_ROW)
    return f"file://{file}"


@pytest.fixture
def process(tmp_path: Path, model: str) -> Iterator[RuntimeProcess]:
    """A server with two workers, which leave it to clients when connections end."""
    with runtime(tmp_path, model, WORKERS="2", MAX_CONNECTION_AGE_SECONDS="0") as started:
        started.wait_ready()
        eventually(lambda: len(workers(started)) == 2, "two workers")
        yield started


def workers(process: RuntimeProcess) -> list[int]:
    """Return the process ids of workers that have said that they serve, and live."""
    said = [line["msg"] for line in process.lines if " serves, as process " in line["msg"]]
    return [pid for pid in (int(line.rsplit(" ", 1)[1]) for line in said) if not ended(pid)]


def clients_of_all(process: RuntimeProcess, over: threading.Event) -> list[Client]:
    """Return clients that keep sending, at least two of them connected to each worker."""
    clients: list[Client] = []
    while min(served_by(pid, process.port) for pid in workers(process)) < 2:
        assert len(clients) < 64
        client = Client(process, over)
        client.start()
        eventually(lambda started=client: started.statuses or started.errors, "answered")
        clients.append(client)
    return clients


class Scraper(threading.Thread):
    """Reads how many requests have ended, again and again; a scrape that fails is no more than a gap."""

    def __init__(self, process: RuntimeProcess, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._over = over
        self.totals: list[float] = []

    def run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.totals.append(metric(self._process, contract.METRIC_REQUESTS))


def test_answers_are_right_over_http_and_grpc(process: RuntimeProcess) -> None:
    over = threading.Event()
    clients = clients_of_all(process, over)
    over.set()
    for client in clients:
        client.join(PATIENCE)
        assert (client.errors, set(client.statuses)) == ([], {200})
    for values in range(20):
        with triton.InferenceServerClient(
            f"127.0.0.1:{process.grpc_port}", channel_args=[("grpc.use_local_subchannel_pool", 1)]
        ) as client:
            x = np.full((2, 3), values, np.float32)
            asked = triton.InferInput("x", x.shape, "FP32").set_data_from_numpy(x)
            assert (client.infer("tiny", [asked]).as_numpy("y") == x).all()
    answered = sum(len(client.statuses) for client in clients) + 20
    eventually(lambda: metric(process, contract.METRIC_REQUESTS) == answered, "all counted")
    assert metric(process, contract.METRIC_WORKER_RESTARTS) == 0
    report = PodReport.decode(json.dumps(process.get(contract.READY_PATH)[1]))
    assert report is not None
    assert [entered.phase for entered in report.history] == [
        Phase.STARTING, Phase.VERIFIED, Phase.LOADING, Phase.WARMING, Phase.READY,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_costs_its_own_requests_only(process: RuntimeProcess, number: int) -> None:
    over = threading.Event()
    scraper = Scraper(process, over)
    scraper.start()
    clients = clients_of_all(process, over)
    before = workers(process)
    victim = before[0]
    scrapes_its_own = 1  # the scraper may be connected to it at that moment
    lost = served_by(victim, process.port)
    os.kill(victim, number)
    eventually(lambda: ended(victim) and len(workers(process)) == 2, "two workers again")
    eventually(lambda: sum(not client.is_alive() for client in clients) >= lost - scrapes_its_own, "noticed")
    survivors = [client for client in clients if client.is_alive()]
    counts = [len(client.statuses) for client in survivors]
    eventually(
        lambda: all(len(c.statuses) > n + 3 for c, n in zip(survivors, counts, strict=True)), "going on"
    )
    newcomers = clients_of_all(process, over)  # the new one serves too
    over.set()
    for thread in (*clients, *newcomers, scraper):
        thread.join(PATIENCE)
    failed = [client for client in clients if client.errors]
    assert lost - scrapes_its_own <= len(failed) <= lost
    assert all(len(client.errors) == 1 for client in failed)
    assert not any(client.errors for client in newcomers)
    answered = sum(len(client.statuses) for client in (*clients, *newcomers))
    # A worker counts just after it has answered: it may have died in between, once.
    eventually(lambda: metric(process, contract.METRIC_REQUESTS) >= answered - 1, "all counted")
    # Those that it held may have been counted, and their answers lost.
    assert metric(process, contract.METRIC_REQUESTS) <= answered + len(failed)
    assert metric(process, contract.METRIC_WORKER_RESTARTS) == 1
    assert all(earlier <= later for earlier, later in itertools.pairwise(scraper.totals))
    assert process.get(contract.READY_PATH)[0] == 200


def test_workers_that_die_again_and_again_are_given_up(process: RuntimeProcess) -> None:
    def kill_all() -> bool:
        for pid in workers(process):
            os.kill(pid, signal.SIGKILL)
        return process.process.poll() is not None

    eventually(kill_all, "given up")
    assert process.wait() == 1
    words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent, words.phase) == (
        FailureReason.MODEL_LOAD_FAILED,
        False,
        Phase.READY,
    )
    assert words.message.endswith("was ended by SIGKILL")


class Heavy(torch.nn.Module):
    """Returns a part of what 200 MB of weights make of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(SIDE, SIDE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return (x @ self.weights)[:, :3]


def test_weights_are_in_memory_once(tmp_path: Path) -> None:
    rows = torch.export.Dim("rows", max=8)
    file = save_exported(Heavy(), tmp_path / "heavy.pt2", (torch.zeros(2, SIDE),), ({0: rows},))
    body = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, SIDE], "data": [1.0] * SIDE}]}
    )
    with runtime(tmp_path, f"file://{file}", WORKERS="2", MAX_CONNECTION_AGE_SECONDS="0") as process:
        process.wait_ready()
        eventually(lambda: len(workers(process)) == 2, "two workers")
        connections = []
        while min(served_by(pid, process.port) for pid in workers(process)) < 1:
            connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
            connections.append(connection)
            for _ in range(3):
                connection.request("POST", "/v2/models/tiny/infer", body)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                assert json.loads(answer.read())["outputs"][0]["data"] == [0, 0, 0]
        assert metric(process, contract.METRIC_WEIGHT_BYTES) == 4 * SIDE * SIDE
        for pid in workers(process):
            assert private_bytes(pid) < 64 * MIB
        assert private_bytes(process.process.pid) < 64 * MIB
        for connection in connections:
            connection.close()


def test_draining_loses_no_request(tmp_path: Path, model: str) -> None:
    with runtime(tmp_path, model, WORKERS="2", DRAIN_DELAY_SECONDS="4") as process:
        process.wait_ready()
        eventually(lambda: len(workers(process)) == 2, "two workers")
        over = threading.Event()
        clients = clients_of_all(process, over)
        everyone = descendants(process.process.pid)
        process.terminate()
        for _ in range(10):  # whichever worker answers
            eventually(lambda: process.get(contract.READY_PATH)[0] == 503, "out of readiness")
        assert process.get(contract.READY_PATH)[1]["state"] == "Draining"
        before = [len(client.statuses) for client in clients]
        eventually(
            lambda: all(len(c.statuses) > n + 2 for c, n in zip(clients, before, strict=True)), "answering"
        )
        over.set()
        for client in clients:
            client.join(PATIENCE)
        assert process.wait() == 0
        assert all(ended(pid) for pid in everyone)
    assert [client.errors for client in clients if client.errors] == []
    assert {status for client in clients for status in client.statuses} == {200}
    assert all(client.closed for client in clients)  # each was told to leave
    assert process.last_words() is None


def test_probes_are_answered_while_the_model_does_not_come(tmp_path: Path) -> None:
    with (
        BadServer({}) as server,
        runtime(tmp_path, f"{server.url}/silent/model.pt", WORKERS="2") as process,
    ):
        process.wait_listening()
        assert process.get(contract.LIVE_PATH)[0] == 200
        eventually(lambda: process.get(contract.READY_PATH)[1]["state"] == "Pulling", "pulling")
        assert process.get(contract.READY_PATH)[0] == 503
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
        connection.request("POST", "/v2/models/tiny/infer", BODY)
        assert connection.getresponse().status == 503
        connection.close()
        assert metric(process, contract.METRIC_REQUESTS) == 1
        everyone = descendants(process.process.pid)
        process.terminate()
        assert process.wait() == 0
        assert all(ended(pid) for pid in everyone)


def test_a_model_that_cannot_be_loaded_leaves_last_words(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes(b"this is no model")
    with runtime(tmp_path, f"file://{file}", WORKERS="2") as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert [entered.phase for entered in words.history] == [Phase.STARTING, Phase.VERIFIED]


def doubled(x: torch.Tensor) -> torch.Tensor:
    """What `Forking` runs in another thread."""
    return x + x


class Forking(torch.nn.Module):
    """y = 2 x, in a thread of TorchScript's own pool."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return twice x."""
        started = torch.jit.fork(doubled, x)
        return torch.jit.wait(started)


def test_a_model_that_needs_threads_of_its_own_is_served_by_one_process_only(tmp_path: Path) -> None:
    file = save_torchscript(Forking(), tmp_path / "forking.pt", ONE_ROW)
    with runtime(tmp_path, f"file://{file}", WORKERS="2") as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert words.message.startswith(f"{contract.ENV_WORKERS}: must be 1 for this model")


@pytest.mark.parametrize("part", ["supervisor", "loader"])
def test_nothing_is_left_behind_where_a_parent_dies(process: RuntimeProcess, part: str) -> None:
    everyone = descendants(process.process.pid)
    assert len(everyone) == 4
    os.kill(everyone[0 if part == "supervisor" else 1], signal.SIGKILL)
    code = process.wait()
    eventually(lambda: all(ended(pid) for pid in everyone), "all ended")
    words = process.last_words()
    if part == "supervisor":
        assert (code, words) == (-signal.SIGKILL, None)
    else:
        assert code == 1
        assert words is not None
        assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, False)
        assert "was ended by SIGKILL" in words.message
