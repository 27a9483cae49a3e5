"""SIGTERM under load, over HTTP and gRPC: each request that was accepted is answered, and its client has the answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.http_wire import post
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.sockets import Raw, row, row_of
from tests.support.tiny_models import Sleeper, save_torchscript

SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}


class Load:
    """Clients that ask until nobody accepts them any more."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def add(self, protocol: str, client: Callable[[Callable[[bool], None]], None]) -> None:
        """Start a client, which tells of each answer whether it is right."""

        def tell(right: bool) -> None:
            with self._lock:
                self.answered[protocol] += 1
                if not right:
                    self.wrong.append(protocol)

        thread = threading.Thread(target=client, args=(tell,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until all clients have ended."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def over_http(process: RuntimeProcess, pipelined: int) -> Callable[[Callable[[bool], None]], None]:
    def ask(tell: Callable[[bool], None]) -> None:
        while True:
            try:
                raw = Raw(process.port)
            except ConnectionError:
                return  # the door is closed
            with raw:
                waiting = 0
                ends = False
                while not ends:
                    try:
                        if not waiting:
                            raw.send(post(row(1, 2, 3)) * pipelined)
                            waiting = pipelined
                        answer = raw.answer()
                    except ConnectionError:
                        break  # closed before it was accepted: the log must not know of it
                    waiting -= 1
                    tell(row_of(answer) == [1, 2, 3])
                    ends = answer.ends  # what was sent behind it is to be sent again

    return ask


def over_grpc(process: RuntimeProcess) -> Callable[[Callable[[bool], None]], None]:
    request = service_pb2.ModelInferRequest(model_name="tiny")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([1, 2, 3])

    def ask(tell: Callable[[bool], None]) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{process.grpc_port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while True:
                try:
                    answer = stub.ModelInfer(request, timeout=PATIENCE)
                except grpc.RpcError as error:
                    # What gRPC has read and not yet given to anybody when it stops, it ends as CANCELLED
                    # (grpc/grpc#41785): not accepted, which the log bears out.
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                        tell(False)
                    return
                tell(list(answer.outputs[0].contents.fp32_contents) == [1, 2, 3])

    return ask


@pytest.mark.parametrize("delay", ["0", "1"])
def test_no_accepted_request_is_lost(tmp_path: Path, delay: str) -> None:
    model = save_torchscript(Sleeper(20), tmp_path / "sleeper.pt", SIGNATURE)
    with runtime(tmp_path, f"file://{model}", DRAIN_DELAY_SECONDS=delay, ACCESS_LOG="1") as process:
        process.wait_ready()
        load = Load()
        for pipelined in (1, 1, 1, 1, 5, 5):
            load.add("rest", over_http(process, pipelined))
        for _ in range(4):
            load.add("grpc", over_grpc(process))
        eventually(lambda: min(load.answered["rest"], load.answered["grpc"]) > 50, "under load")
        process.terminate()
        assert process.wait() == 0
        load.wait()
    told = [line for line in process.lines if line["msg"] == "request"]
    logged = Counter((line["protocol"], line["status"]) for line in told)
    assert load.wrong == []
    assert logged == {(protocol, 200): count for protocol, count in load.answered.items()}
    assert process.last_words() is None
