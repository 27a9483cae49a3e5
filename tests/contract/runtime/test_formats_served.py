"""Models of each format in a real process: asked by a real client, with the log that it writes, and by workers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as triton

from dev.cluster.debian import install_missing
from dev.cluster.report import Report
from tests.support.runtime_process import runtime
from tests.support.tiny_models import Affine
from tests.support.written_models import (
    FACTORY,
    X,
    Y,
    mlflow_signature,
    save_mlflow,
    save_onnx,
    save_python,
    save_safetensors,
    save_transformers,
)

SIGNATURE = json.dumps(
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
)
PYTHON = """
class Model:
    def load(self, folder): pass
    def predict(self, inputs):
        x = inputs["x"]
        return {"y": x @ [[1, -1], [2, 0], [3, 1]] + [0.5, -0.5]}
    def postprocess(self, outputs): return {"y": outputs["y"].astype("float32")}
"""


def compiled(path: Path) -> Path:
    """Write the affine model compiled to native code."""
    install_missing({"g++": "g++"}, Report())
    program = torch.export.export(
        Affine(), (torch.zeros(2, 3),), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the compiler itself uses
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


def saved(path: Path) -> Path:
    torch.save(Affine().state_dict(), path)
    return path


def answer(port: int) -> np.ndarray:
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    given = triton.InferInput("x", X.shape, "FP32").set_data_from_numpy(X)
    return client.infer("tiny", [given]).as_numpy("y")


@pytest.mark.parametrize(
    ("make", "environment"),
    [
        (lambda place: save_onnx(place / "affine.onnx"), {}),
        (lambda place: save_onnx(place / "affine.onnx"), {"WORKERS": "2"}),
        (lambda place: save_onnx(place / "m" / "affine.onnx", data="affine.data").parent, {}),
        (
            lambda place: save_safetensors(place / "affine.safetensors"),
            {"MODEL_FACTORY": FACTORY, "MODEL_SIGNATURE": SIGNATURE},
        ),
        (
            lambda place: saved(place / "affine.pt"),
            {"MODEL_FACTORY": FACTORY, "MODEL_SIGNATURE": SIGNATURE, "MODEL_FORMAT": "statedict"},
        ),
        (
            lambda place: save_python(place / "own", PYTHON),
            {"MODEL_SIGNATURE": SIGNATURE, "MODEL_FORMAT": "python"},
        ),
        (
            lambda place: compiled(place / "affine.pt2"),
            {"MODEL_SIGNATURE": SIGNATURE, "MODEL_FORMAT": "aotinductor"},
        ),
        (
            lambda place: (
                save_onnx(
                    save_mlflow(place / "m", {"onnx": {"data": "m.onnx"}}, signature=mlflow_signature())
                    / "m.onnx"
                ).parent
            ),
            {},
        ),
    ],
    ids=[
        "onnx",
        "onnx-workers",
        "onnx-folder",
        "safetensors",
        "statedict",
        "python",
        "aotinductor",
        "mlflow",
    ],
)
def test_a_client_gets_what_the_network_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, environment: dict[str, str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    path = make(place)  # type: ignore[operator]
    with runtime(tmp_path, f"file://{path}", **environment) as process:
        process.wait_ready()
        np.testing.assert_allclose(answer(process.port), Y, rtol=1e-6)
        _, metadata = process.get("/v2/models/tiny")
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert "requests are run one by one" not in str(process.lines)
        process.terminate()
        assert process.wait() == 0


def test_texts(tmp_path: Path) -> None:
    folder = save_transformers(tmp_path / "bert")
    with runtime(tmp_path, f"file://{folder}") as process:
        process.wait_ready()
        request = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["one house", ""]}]}
        reply = httpx.post(f"{process.url}/v2/models/tiny/infer", json=request)
        assert reply.status_code == 200
        output = reply.json()["outputs"][0]
        assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [2, 8])
