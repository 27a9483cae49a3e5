"""Models that are run otherwise than their file says, by real servers: what they answer, take and explain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from pilothouse_runtime.contract import FailureReason
from tests.support.processes import anonymous_bytes, mapped_bytes
from tests.support.runtime_process import PATIENCE, RuntimeProcess, runtime
from tests.support.tiny_models import save_affine
from tests.support.wide_models import Wider, saved_wide
from tests.support.written_models import save_onnx

LONG = 600.0  # seconds; a compiler on a machine that is busy
MIB = 1 << 20
WEIGHTS = 4 * Wider.side**2  # bytes: 64 MiB
SIGNATURE = json.dumps(
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, Wider.side]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, Wider.side]}],
    }
)
BY_FACTORY = {"MODEL_FACTORY": f"{Wider.__module__}:{Wider.__name__}", "MODEL_SIGNATURE": SIGNATURE}
KINDS = {"exported": {}, "safetensors": BY_FACTORY, "statedict": BY_FACTORY | {"MODEL_FORMAT": "statedict"}}
X = [[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]
FIRST = [[1.0, 4.0, 9.0], [0.0, 2.0, 0.0]]  # of the linear model's first output: weight x input


def asked(process: RuntimeProcess, path: str, rows: Any, **parameters: Any) -> httpx.Response:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(np.shape(rows)), "data": np.ravel(rows).tolist()}
    body = {"inputs": [tensor], **({"parameters": parameters} if parameters else {})}
    return httpx.post(f"{process.url}/v2/models/tiny/{path}", json=body, timeout=PATIENCE)


def answered(process: RuntimeProcess, rows: Any) -> np.ndarray[Any, Any]:
    (output,) = asked(process, "infer", rows).raise_for_status().json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def refused(folder: Path, model: Path, **environment: str) -> str:
    """Return the last words of a server that does not serve a model so."""
    with runtime(folder, f"file://{model}", **environment) as process:
        assert process.wait(LONG) != 0
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.OPTIMIZATION_FAILED, True)
    return words.message


@pytest.mark.parametrize("kind", KINDS)
def test_mapped_weights_are_no_memory_of_the_process(tmp_path: Path, kind: str) -> None:
    file = saved_wide(kind, tmp_path, Wider())
    rows = np.random.default_rng(4).standard_normal((3, Wider.side)).astype(np.float32)
    with torch.inference_mode():
        want = Wider()(torch.from_numpy(rows)).numpy()
    used = {}
    for optimize in ("none", "mmap"):
        with runtime(tmp_path, f"file://{file}", OPTIMIZE=optimize, EXPLAIN="1", **KINDS[kind]) as process:
            process.wait_ready()
            np.testing.assert_allclose(answered(process, rows), want, rtol=1e-4, atol=1e-4)
            pid = process.process.pid
            used[optimize] = anonymous_bytes(pid)
            mapped = mapped_bytes(file, pid)
            assert mapped.get("Anonymous", 0) == 0  # no page of it was copied
            assert mapped.get("Rss", 0) >= (WEIGHTS if optimize == "mmap" else 0)
            # Nothing is fused, so there are gradients.
            explained = asked(process, "explain", rows[:1], target=0, steps=4)
            assert explained.json()["parameters"]["method"] == "integrated_gradients"
    assert used["none"] - used["mmap"] > WEIGHTS - 16 * MIB


def test_servers_of_one_file_share_its_pages(tmp_path: Path) -> None:
    file = saved_wide("safetensors", tmp_path, Wider())
    environment = BY_FACTORY | {"OPTIMIZE": "mmap"}
    for name in "ab":
        (tmp_path / name).mkdir()
    with (
        runtime(tmp_path / "a", f"file://{file}", **environment) as first,
        runtime(tmp_path / "b", f"file://{file}", **environment) as second,
    ):
        for process in (first, second):
            process.wait_ready()
        mapped = mapped_bytes(file, first.process.pid)
        assert mapped["Shared_Clean"] + mapped["Shared_Dirty"] >= WEIGHTS
        assert mapped["Pss"] < 0.6 * mapped["Rss"]


@pytest.mark.parametrize("optimize", ["bf16", "int8"])
def test_fused_layers_are_explained_without_gradients(tmp_path: Path, optimize: str) -> None:
    file = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{file}", OPTIMIZE=optimize, EXPLAIN="1") as process:
        process.wait_ready()
        assert f"the model is run as {optimize}" in str(process.lines)
        without = asked(process, "explain", X, target=0)
        assert without.status_code == 400
        told = without.json()["error"]
        assert "integrated_gradients needs gradients, and this model (exported) gives none" in told
        assert "use occlusion or feature_ablation" in told
        for parameters in ({"method": "occlusion", "window": 1}, {"method": "feature_ablation"}):
            explained = asked(process, "explain", X, target=0, **parameters).raise_for_status().json()
            (attribution,) = explained["outputs"]
            np.testing.assert_allclose(np.reshape(attribution["data"], (2, 3)), FIRST, atol=0.2)


@pytest.mark.parametrize(
    ("optimize", "able"),
    [("compile", "exported, torchscript"), ("mmap", "exported, safetensors, statedict, transformers")],
)
def test_formats_that_cannot_are_told_which_can(tmp_path: Path, optimize: str, able: str) -> None:
    told = refused(tmp_path, save_onnx(tmp_path / "affine.onnx"), OPTIMIZE=optimize)
    assert f"a model of format onnx on cpu cannot be changed so; on cpu, those of {able} can" in told
