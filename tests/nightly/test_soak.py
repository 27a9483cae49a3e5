"""One server, for an hour, with requests of every kind, good and bad: its memory stays what it was."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pilothouse_runtime import contract
from tests.support.http_wire import chunked, post
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.sockets import Raw, metric, row, row_of, rss
from tests.support.tiny_models import Affine, save_torchscript

LIMIT: Final = 1_000_000
MOST_GROWTH: Final = 8 * 1024 * 1024  # bytes, in the second half, by the line through what was measured
SAMPLES: Final = 400
Round = Callable[[RuntimeProcess, int], None]


def as_json(process: RuntimeProcess, number: int) -> None:
    with Raw(process.port) as raw:
        for first in range(50):
            raw.send(post(row(first, 0, 0)) if first % 2 else chunked(row(first, 0, 0)))
            answer = raw.answer()
            assert row_of(answer) == [first + 0.5, -first - 0.5]
            if answer.ends:
                return


def as_version_1(process: RuntimeProcess, number: int) -> None:
    with Raw(process.port) as raw:
        rows = number % 40 + 1
        raw.send(post(json.dumps({"instances": [[1, 2, 3]] * rows}).encode(), b"/v1/models/tiny:predict"))
        assert json.loads(raw.answer().body) == {"predictions": [[14.5, 1.5]] * rows}


def as_binary(process: RuntimeProcess, number: int) -> None:
    rows = (1, 30, 2000, 20_000)[number % 4]  # the larger ones come past the parser
    data = np.zeros((rows, 3), np.float32)
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": data.shape,
        "parameters": {"binary_data_size": data.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    with Raw(process.port) as raw:
        raw.send(post(head + data.tobytes(), Inference_Header_Content_Length=str(len(head))))
        answer = raw.answer()
        at = int(answer.headers[b"inference-header-content-length"])
        assert np.frombuffer(answer.body[at:], np.float32).tolist() == [0.5, -0.5] * rows


def over_grpc(process: RuntimeProcess, number: int) -> None:
    request = service_pb2.ModelInferRequest(model_name="tiny" if number % 5 else "nobody")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    with grpc.insecure_channel(f"127.0.0.1:{process.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(20):
            if request.model_name == "nobody":
                with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                    stub.ModelInfer(request, timeout=PATIENCE)
            else:
                answer = stub.ModelInfer(request, timeout=PATIENCE)
                assert list(answer.outputs[0].contents.fp32_contents) == [14.5, 1.5]


def badly(process: RuntimeProcess, number: int) -> None:
    wrong = [
        b"garbage %d\r\n\r\n" % number,
        post(b"[" * 2000),
        post(b"x" * 100_000),
        post(row(1, 2, 3), b"/v2/models/nobody-%d/infer" % number),
        post(b"").replace(b"Length: 0", b"Length: %d" % (2 * LIMIT)),
        post(row(1, 2, 3), **{f"X-{number}": "a" * 5000}).replace(b"[1, 3]", b"[3, 1]"),
    ]
    with Raw(process.port) as raw:
        raw.send(wrong[number % len(wrong)])
        assert 400 <= raw.answer().status < 500
    raw = Raw(process.port)
    raw.send(post(row(1, 2, 3) + b" " * 200_000)[: -1 - number % 150_000])
    raw.reset()


class Soak:
    """Clients of several kinds, each going round until told to end."""

    def __init__(self, process: RuntimeProcess) -> None:
        self._process = process
        self._over = threading.Event()
        self.rounds: Counter[str] = Counter()
        self.failures: list[BaseException] = []

    def run(self, kinds: list[Round], seconds: float) -> NDArray[np.float64]:
        """Run for so long; return the moments and the memory at each, as rows."""
        threads = [threading.Thread(target=self._go, args=(kind,), daemon=True) for kind in kinds]
        for thread in threads:
            thread.start()
        start = time.monotonic()
        samples = []
        while (now := time.monotonic() - start) < seconds and not self.failures:
            samples.append((now, float(rss(self._process))))
            self._over.wait(seconds / SAMPLES)
        self._over.set()
        for thread in threads:
            thread.join(PATIENCE)
        return np.array(samples)

    def _go(self, kind: Round) -> None:
        number = 0
        while not self._over.wait(0.01):  # the rest of the machine is for others
            try:
                kind(self._process, number)
            except BaseException as failure:
                self.failures.append(failure)
                return
            number += 1
            self.rounds[kind.__name__] += 1


@pytest.mark.timeout(0)  # it is as long as it is asked to be
def test_memory_stays_what_it_was(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    seconds: float = request.config.getoption("--soak-seconds")
    model = save_torchscript(Affine(), tmp_path / "affine.pt")
    with runtime(tmp_path, f"file://{model}", MAX_REQUEST_BYTES=str(LIMIT)) as process:
        process.wait_ready()
        soak = Soak(process)
        samples = soak.run([as_json, as_version_1, as_binary, over_grpc, badly], seconds)
        assert soak.failures == []
        eventually(lambda: metric(process, contract.METRIC_IN_FLIGHT) == 0, "idle")
        eventually(lambda: metric(process, contract.METRIC_BODY_BYTES) == 0, "free of bodies")
        assert metric(process, contract.METRIC_REQUESTS, 'code="500"') == 0
        requests = metric(process, contract.METRIC_REQUESTS)
    later = samples[len(samples) // 2 :]
    slope, _ = np.polyfit(later[:, 0], later[:, 1], 1)  # bytes a second
    growth = slope * (later[-1, 0] - later[0, 0])
    told = (
        f"{requests:.0f} requests, {dict(soak.rounds)}; memory {samples[0, 1] / 2**20:.1f} MiB at first,"
        f" {later[0, 1] / 2**20:.1f} in the middle, {later[-1, 1] / 2**20:.1f} at the end:"
        f" {slope * 3600 / 2**20:.2f} MiB an hour over the second half"
    )
    record_property("soak", told)
    print(told)  # noqa: T201 - what a night's run is read for
    assert growth < MOST_GROWTH, told
