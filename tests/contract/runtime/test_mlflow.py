"""Folders as MLflow itself writes them: served with the answers that MLflow gives, or refused in plain words."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import httpx
import numpy as np
import pytest

from dev.bench.environments import Environment, ensure
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.engine.exporting.served import Served
from tests.support.runtime_process import PATIENCE, ROOT, runtime
from tests.support.written_models import X, Y


def written_by_mlflow(program: str, folder: Path, *packages: str) -> Path:
    """Return a folder with what a program in `tests/support` has MLflow write there.

    MLflow is in an environment of its own; all else that the program imports it has from `packages`, and from ours.
    """
    environment = ensure("mlflow", print, ROOT / "requirements" / "mlflow.txt")
    ours = dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))
    done = subprocess.run(
        [environment.python, "-m", f"tests.support.{program}", str(folder)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join([str(ROOT), str(ROOT / "runtime"), *packages, *ours]),
        },
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folders of `mlflow_models`."""
    return written_by_mlflow("mlflow_models", tmp_path_factory.mktemp("logged"))


@pytest.fixture(scope="module")
def tensorflow() -> Environment:
    """What the image with TensorFlow holds."""
    return ensure("runtime-tensorflow", print, ROOT / "requirements" / "runtime-tensorflow.txt")


@pytest.fixture(scope="module")
def saved(tensorflow: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folders of `mlflow_saved_models`."""
    base = {"base": str(tensorflow.folder), "platbase": str(tensorflow.folder)}
    packages = sysconfig.get_path("purelib", "venv", base)
    return written_by_mlflow("mlflow_saved_models", tmp_path_factory.mktemp("saved"), packages)


@pytest.mark.parametrize(
    ("name", "format_", "input_", "output"),
    [
        ("onnx", "onnx", "x", "y"),
        ("exported", "exported", "x", "output_0"),
        ("scripted", "torchscript", "input_0", "output_0"),
        ("keras3", "keras", "x", "y"),
    ],
)
def test_answers_are_those_that_mlflow_gives(
    logged: Path, name: str, format_: str, input_: str, output: str
) -> None:
    model = Served(logged / name)
    assert model.format == format_
    assert model.signature is not None
    assert [str(spec) for spec in model.signature.inputs] == [f"{input_} FP32 [-1, 3]"]
    answers = model.answers({input_: X})
    assert answers.keys() == {output}
    np.testing.assert_allclose(answers[output], np.load(logged / "answers.npz")[name], rtol=1e-5)
    np.testing.assert_allclose(answers[output], Y, rtol=1e-5)


def test_a_tokenizer_beside_its_network(logged: Path, tmp_path: Path) -> None:
    request = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["one house", "red"]}]}
    with runtime(tmp_path, f"file://{logged / 'texts'}") as process:
        process.wait_ready()
        reply = httpx.post(f"{process.url}/v2/models/tiny/infer", json=request, timeout=PATIENCE)
    [output] = reply.json()["outputs"]
    assert (output["name"], output["shape"]) == ("embedding", [2, 8])
    expected = np.load(logged / "answers.npz")["texts"]
    np.testing.assert_allclose(output["data"], expected.ravel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pickled", "model.pth was written by torch.save"),
        ("sklearn", "it has the flavours python_function, sklearn, which is kept as a pickle"),
        ("own", "it has the flavours python_function, which is kept as a pickle"),
    ],
)
def test_pickles_are_refused(logged: Path, tmp_path: Path, name: str, told: str) -> None:
    with runtime(tmp_path, f"file://{logged / name}") as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert told in words.message


@pytest.mark.parametrize(
    ("name", "platform", "answer"),
    [
        ("module", "tensorflow_savedmodel", "module"),  # the flavour tensorflow, of a tf.Module
        ("network", "keras_torch", "network"),  # the flavour tensorflow, of a network of Keras
        ("exported", "tensorflow_savedmodel", "network"),  # the flavour keras, exported by Keras
    ],
)
def test_models_of_tensorflow(
    saved: Path, tensorflow: Environment, tmp_path: Path, name: str, platform: str, answer: str
) -> None:
    python = tensorflow.python if platform.startswith("tensorflow") else None
    expected = np.load(saved / "answers.npz")
    with runtime(tmp_path, f"file://{saved / name}", python) as process:
        process.wait_ready()
        metadata = process.get("/v2/models/tiny")[1]
        [described] = metadata["inputs"]
        sent = {**described, "shape": [2, 3], "data": expected["x"].ravel().tolist()}
        reply = httpx.post(f"{process.url}/v2/models/tiny/infer", json={"inputs": [sent]}, timeout=PATIENCE)
    assert metadata["platform"] == platform
    assert (described["datatype"], described["shape"]) == ("FP32", [-1, 3])
    [output] = reply.json()["outputs"]
    np.testing.assert_allclose(output["data"], expected[answer].ravel(), rtol=1e-5)
