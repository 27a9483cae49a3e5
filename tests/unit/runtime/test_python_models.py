"""Folders with a user's own class."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pilothouse_runtime.core.errors import Code, LoadError, RequestError
from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.selection import select
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.written_models import save_onnx, save_python

WHOLE = """
import json
import numpy as np
from helpers_of_the_model import shouted

class Model:
    signature = {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "length", "datatype": "INT64", "shape": [-1]},
                    {"name": "loud", "datatype": "BYTES", "shape": [-1]}],
    }

    def load(self, folder):
        self.factor = json.loads((folder / "weights.json").read_text())["factor"]

    def preprocess(self, inputs):
        texts = [text.decode() for text in inputs["text"]]
        if "bad" in texts:
            raise ValueError("text: 'bad' is not welcome")
        return {"texts": texts}

    def predict(self, inputs):
        return {"texts": inputs["texts"], "length": [self.factor * len(text) for text in inputs["texts"]]}

    def postprocess(self, outputs):
        return {"loud": np.array([shouted(text) for text in outputs["texts"]]).reshape(-1),
                "length": np.array(outputs["length"], np.int64)}
"""

OF_ONNX = """
import onnxruntime

class Model:
    def load(self, folder):
        self.session = onnxruntime.InferenceSession(folder / "graph.onnx")

    def predict(self, inputs):
        return dict(zip("y", self.session.run(None, inputs)))
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Take what the folders have brought out of this process again."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("pilothouse_model", "helpers_of_the_model"):
            del sys.modules[name]


def loaded(folder: Path, source: str, declared: Signature | None = None) -> LoadedModel:
    return select(save_python(folder, source), Format.PYTHON, declared).load(Device.AUTO)


def test_a_whole_class(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text('{"factor": 2}')
    (tmp_path / "helpers_of_the_model.py").write_text("def shouted(text):\n    return text.upper()\n")
    model = loaded(tmp_path, WHOLE)
    assert warm_up(model, 8).max_batch == 8
    assert not model.reentrant
    length, loud = model.run([Tensor("text", Datatype.BYTES, np.array([b"red", b""], object))])
    assert (length.name, length.array.tolist()) == ("length", [6, 0])
    assert (loud.name, loud.datatype, loud.array.tolist()) == ("loud", Datatype.BYTES, [b"RED", b""])
    with pytest.raises(RequestError, match="'bad' is not welcome") as caught:
        model.run([Tensor("text", Datatype.BYTES, np.array([b"bad"], object))])
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_onnx_runtime_in_it_keeps_no_telemetry(tmp_path: Path) -> None:
    save_onnx(save_python(tmp_path / "model", OF_ONNX) / "graph.onnx")
    program = (
        "import pathlib\n"
        "from pilothouse_runtime.core.settings import Device, Format\n"
        "from pilothouse_runtime.engine.selection import select\n"
        f"select(pathlib.Path({str(tmp_path / 'model')!r}), Format.PYTHON).load(Device.AUTO)\n"
    )
    home = tmp_path / "home"  # in whose .cache the library would keep an identity and what it has to tell
    home.mkdir()
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(home)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(home.iterdir()) == []


def test_never_unasked(tmp_path: Path) -> None:
    save_python(tmp_path, f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\n")
    with pytest.raises(
        LoadError, match=r"holds a program \(model.py\).*set model.format: python if you trust it"
    ):
        select(tmp_path, Format.AUTO)
    assert not (tmp_path / "canary").exists()


def test_the_spec_describes_it(tmp_path: Path) -> None:
    declared = Signature((TensorSpec("x", Datatype.FP32, (-1, 2)),), ())
    model = loaded(tmp_path, f"{LOADS}return {{'y': inputs['x'] + 1}}\n", declared)
    assert model.signature == declared
    assert warm_up(model, 4).max_batch == 4
    x = np.zeros((1, 2), np.float32)
    assert model.run([Tensor("x", Datatype.FP32, x)])[0].array.tolist() == [[1, 1]]


LOADS = "class Model:\n    def load(self, folder): pass\n    def predict(self, inputs):\n        "


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("class Model:\n    def predict(self, inputs): ...\n", "model.py has no method load in class Model"),
        ("x = 1\n", "model.py has no class Model"),
        ("class Model\n", "its own code failed: model.py, line 1: SyntaxError"),
        (
            "import nothing_of_the_kind\n",
            r"model.py, line 1, in <module>: ModuleNotFoundError: No module named",
        ),
        ("raise SystemExit(3)\n", r"model.py, line 1, in <module>: SystemExit: 3"),
        (
            "class Model:\n    predict = print\n    def load(self, folder):\n        open(folder / 'gone')\n",
            r"model.py, line 4, in load: FileNotFoundError",
        ),
        (
            f"{LOADS}return {{}}\n    signature = {{'inputs': 3}}\n",
            "the signature of class Model: must be an object",
        ),
    ],
)
def test_classes_that_cannot_be_loaded(tmp_path: Path, source: str, told: str) -> None:
    with pytest.raises(LoadError, match=told) as caught:
        loaded(tmp_path, source)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return inputs['y']", "the model's own code failed: model.py, line 4, in predict: KeyError: 'y'"),
        ("return [1]", "cannot be sent: it is a list, not a dict of arrays by name"),
        ("return {'y': object()}", "y holds Python objects that are no texts"),
        ("return {'y': 1j}", "y is of complex128, which cannot be sent"),
        ("raise SystemExit", "model.py, line 4, in predict: SystemExit"),
    ],
)
def test_runs_that_fail(tmp_path: Path, body: str, told: str) -> None:
    model = loaded(tmp_path, LOADS + body + "\n")
    with pytest.raises(RequestError, match=told) as caught:
        model.run([Tensor("x", Datatype.FP32, np.zeros(1, np.float32))])
    assert caught.value.code is Code.INTERNAL


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{'y': x.astype('d')}", r"cannot be sent: y is FP64 \[2\]; the signature has y FP32 \[-1\]"),
        ("{'y': x[:, None]}", r"cannot be sent: y is FP32 \[2, 1\]; the signature has y FP32 \[-1\]"),
    ],
)
def test_answers_that_its_signature_does_not_have(tmp_path: Path, body: str, told: str) -> None:
    spec = "[{'name': '%s', 'datatype': 'FP32', 'shape': [-1]}]"
    source = f"""class Model:
    signature = {{'inputs': {spec % "x"}, 'outputs': {spec % "y"}}}
    def load(self, folder): pass
    def predict(self, inputs):
        x = inputs['x']
        return {body} if (x == 7).all() else {{'y': x}}
"""
    model = loaded(tmp_path, source)
    right = Tensor("x", Datatype.FP32, np.zeros(2, np.float32))
    assert model.run([right])[0].datatype is Datatype.FP32
    with pytest.raises(RequestError, match=told) as caught:
        model.run([Tensor("x", Datatype.FP32, np.full(2, 7, np.float32))])
    assert caught.value.code is Code.INTERNAL
