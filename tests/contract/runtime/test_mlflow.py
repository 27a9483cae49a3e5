"""Folders as MLflow itself writes them: served with the answers that MLflow gives, or refused in plain words."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import httpx
import numpy as np
import pytest

from dev.bench.environments import ensure
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.engine.exporting.served import Served
from tests.support.runtime_process import PATIENCE, ROOT, runtime
from tests.support.written_models import X, Y


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folders of `mlflow_models`. MLflow is in an environment of its own, and has all else from ours."""
    environment = ensure("mlflow", print, ROOT / "requirements" / "mlflow.txt")
    folder = tmp_path_factory.mktemp("logged")
    ours = dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))
    done = subprocess.run(
        [environment.python, "-m", "tests.support.mlflow_models", str(folder)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join([str(ROOT), str(ROOT / "runtime"), *ours]),
        },
    )
    assert done.returncode == 0, done.stderr
    return folder


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
