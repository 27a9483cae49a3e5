"""Which requests are chosen to be kept, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from obstore.store import LocalStore

from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.settings import Sampling
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.sample_files import SampleFile, Target
from pilothouse_runtime.serve.sample_objects import SampleObjects
from pilothouse_runtime.serve.sampling import Sampler
from tests.support.waiting import until


class Traffic:
    """Requests that go by a sampler while time stands still, unless it is told otherwise."""

    def __init__(
        self, folder: Path, rate: float, per_minute: int = 1000, target: Target | None = None
    ) -> None:
        self.now = 100.0
        numbers = np.random.default_rng(1)
        settings = Sampling(rate, str(folder), per_minute, 1 << 20)
        target = target or SampleFile(str(folder), "pod", settings.max_bytes)
        self.sampler = Sampler(settings, target, numbers.random, lambda: self.now)
        self._file = folder / "pod.jsonl"

    def send(self, name: str, size: int = 3) -> None:
        job = Job([Tensor("x", Datatype.FP32, np.arange(size, dtype=np.float32))], lambda result: None)
        call = Call("rest", self.now)
        call.job, call.code, call.request_id = job, 200, name
        seen = self.sampler.begin(job)
        if seen is not None:
            job.inputs[0].array[:] = -1  # as a model might
            seen([Tensor("y", Datatype.FP32, np.ones(1, np.float32))])
        self.sampler.observe(call, self.now + 0.5)

    def kept(self) -> list[str]:
        self.sampler.flush(60)
        lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        assert all(line["inputs"][0]["data"] == [0, 1, 2] for line in lines)
        return [line["id"] for line in lines]


def counted(traffic: Traffic) -> dict[str, float]:
    return {s.labels["outcome"]: s.value for f in traffic.sampler.families() for s in f.samples}


def test_chance_decides(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, 0.02)
    for number in range(1000):
        traffic.send(str(number))
    kept = [int(name) for name in traffic.kept()]
    assert 8 <= len(kept) <= 35
    assert max(kept) - min(kept) > 500


def test_a_minute_has_room_for_so_many(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, 1, per_minute=5)
    for number in range(20):
        traffic.send(f"first {number}")
    traffic.now += 61
    traffic.send("next")
    assert traffic.kept() == [*(f"first {number}" for number in range(5)), "next"]


def test_what_is_large_is_dropped_and_counted(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, 1)
    traffic.send("large", size=100_000)
    traffic.send("small")
    assert traffic.kept() == ["small"]
    assert counted(traffic) == {"written": 1, "dropped": 1}


def test_an_object_is_written_when_its_time_is_over_and_nothing_more_comes(tmp_path: Path) -> None:
    objects = SampleObjects("s3://bucket/", LocalStore(tmp_path), "pod", 1 << 20, interval=0.2)
    traffic = Traffic(tmp_path, 1, target=objects)
    traffic.send("one")
    until(lambda: counted(traffic)["written"] == 1, every=0.01)
    (path,) = tmp_path.rglob("*.jsonl")
    assert json.loads(path.read_text())["id"] == "one"
