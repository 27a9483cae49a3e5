"""Samples that a real server keeps: what they hold, how many there are, and that they never keep a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilothouse_runtime import contract
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import save_affine

INFER = "/v2/models/tiny/infer"


def infer(process: RuntimeProcess, name: str, rows: int = 1) -> int:
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": [1, 2, 3] * rows}
    return httpx.post(
        process.url + INFER, json={"id": name, "inputs": [tensor]}, timeout=PATIENCE
    ).status_code


def counted(process: RuntimeProcess) -> dict[str, int]:
    page = httpx.get(f"{process.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {s.labels["outcome"]: int(s.value) for s in samples if s.name == contract.METRIC_SAMPLES}


def kept(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def serving(tmp_path: Path, **settings: str) -> Any:
    model, folder = save_affine(tmp_path / "affine.pt2"), tmp_path / "samples"
    folder.mkdir()
    given = {"SAMPLING_RATE": "1", "SAMPLING_DIRECTORY": str(folder), **settings}
    return runtime(tmp_path, f"file://{model}", **given)


def test_what_a_sample_holds(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        process.wait_ready()
        assert infer(process, "one") == 200
        eventually(lambda: counted(process)["written"] == 1, "written")
        process.terminate()
        assert process.wait() == 0
    (sample,) = kept(tmp_path / "samples")
    assert sample.pop("time").endswith("+00:00")
    assert 0 < sample.pop("seconds") < PATIENCE
    (output,) = sample.pop("outputs")
    assert output["data"] == [14.5, 1.5]
    assert sample == {
        "id": "one",
        "status": 200,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
    }


def test_files_stay_small_and_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    with serving(tmp_path, SAMPLING_MAX_BYTES="2000", SAMPLING_PER_MINUTE="1000") as process:
        process.wait_ready()
        assert {infer(process, str(number)) for number in range(40)} == {200}
        assert infer(process, "long", rows=200) == 200
        assert infer(process, "huge", rows=30_000) == 200
        process.terminate()
        assert process.wait() == 0
    files = list((tmp_path / "samples").iterdir())
    assert sum(file.stat().st_size for file in files) <= 2000
    assert len(files) == 2
    assert {int(sample["id"]) for sample in kept(tmp_path / "samples")} >= {38, 39}


def test_a_folder_that_takes_nothing_costs_no_answer(tmp_path: Path) -> None:
    with serving(tmp_path, SAMPLING_DIRECTORY=str(tmp_path / "nowhere")) as process:
        process.wait_ready()
        assert {infer(process, str(number)) for number in range(20)} == {200}
        eventually(lambda: counted(process) == {"written": 0, "dropped": 20}, "all are dropped")
    told = [line for line in process.lines if "samples cannot be written" in line["msg"]]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SAMPLING_RATE": "1.5"}, "PILOTHOUSE_SAMPLING_RATE: must be a number from 0 to 1"),
        ({"SAMPLING_DIRECTORY": ""}, "PILOTHOUSE_SAMPLING_DIRECTORY: must be set"),
        ({"SAMPLING_URI": "s3://bucket/"}, "PILOTHOUSE_SAMPLING_URI: leave it out, or"),
        (
            {"SAMPLING_DIRECTORY": "", "SAMPLING_URI": "s3://bucket"},
            "PILOTHOUSE_SAMPLING_URI: must be s3, gs",
        ),
        ({"WORKERS": "2"}, "PILOTHOUSE_SAMPLING_RATE: needs one process"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    with serving(tmp_path, **settings) as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert told in words.message
