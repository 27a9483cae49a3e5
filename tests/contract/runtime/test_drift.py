"""Drift as a real server shows it, by requests that are like the golden data set, and by others."""

from __future__ import annotations

import io
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.tensors import Array
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.tiny_models import save_affine

INFER = "/v2/models/tiny/infer"


def save_golden(path: Path, rows: int = 400) -> Path:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    np.savez(path, **{"input.x": x})
    return path


def send(process: RuntimeProcess, x: Array) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    assert httpx.post(process.url + INFER, json={"inputs": [tensor]}, timeout=PATIENCE).status_code == 200


def index(process: RuntimeProcess) -> dict[str, float]:
    page = httpx.get(f"{process.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    told = {
        sample.labels["column"]: sample.value for sample in samples if sample.name == contract.METRIC_DRIFT
    }
    (rows,) = [sample.value for sample in samples if sample.name == contract.METRIC_DRIFT_ROWS]
    return told | {"rows": rows}


def test_drift_is_seen(tmp_path: Path) -> None:
    model, golden = save_affine(tmp_path / "affine.pt2"), save_golden(tmp_path / "golden.npz")
    rng = np.random.default_rng(3)
    with runtime(tmp_path, f"file://{model}", DRIFT_PROFILE=f"file://{golden}") as process:
        process.wait_ready()

        def sent(rows: int, shift: float) -> bool:
            send(process, (rng.normal(size=(32, 3)) + np.array([0, 0, shift])).astype(np.float32))
            return index(process)["rows"] >= rows

        eventually(lambda: sent(640, 0), "enough rows seen")
        told = index(process)
        assert told.keys() == {"[0]", "[1]", "[2]", "rows"}
        assert max(told["[0]"], told["[1]"], told["[2]"]) < 0.25
        eventually(lambda: sent(1280, 3), "other rows seen")
        told = index(process)
        assert told["[2]"] > 0.25 > told["[0]"]


def test_nothing_is_told_where_it_is_off(tmp_path: Path) -> None:
    model = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{model}") as process:
        process.wait_ready()
        assert contract.METRIC_DRIFT not in httpx.get(f"{process.url}/metrics").text


def other_names() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{"input.z": np.zeros((200, 3), np.float32)})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "settings", "told"),
    [
        (None, {}, "runtime.drift: .*golden.npz: No such file or directory; check runtime.drift.uri"),
        (b"no data", {}, "runtime.drift: the data set is no .npz file but a text file"),
        (other_names(), {}, "runtime.drift: the data set has input.z; the model has x"),
        (other_names(), {"DRIFT_DIGEST": f"sha256:{64 * '0'}"}, "runtime.drift: the file has sha256:"),
        (other_names(), {"WORKERS": "2"}, "PILOTHOUSE_DRIFT_PROFILE: needs one process"),
    ],
    ids=["none", "text", "another model's", "digest", "workers"],
)
def test_a_data_set_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, settings: dict[str, str], told: str
) -> None:
    model, golden = save_affine(tmp_path / "affine.pt2"), tmp_path / "golden.npz"
    if content is not None:
        golden.write_bytes(content)
    with runtime(tmp_path, f"file://{model}", DRIFT_PROFILE=f"file://{golden}", **settings) as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert re.search(told, words.message), words.message
