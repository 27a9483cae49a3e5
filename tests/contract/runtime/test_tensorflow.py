"""SavedModels in the runtime with TensorFlow: trained there, served, answered as offline; bad ones refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from sklearn.datasets import load_digits

from dev.bench.environments import ensure
from pilothouse_runtime.contract import FailureReason
from tests.support.runtime_process import PATIENCE, ROOT, RuntimeProcess, runtime
from tests.support.tiny_models import Affine, save_affine, save_torchscript
from tests.support.written_models import save_mlflow, save_onnx, save_safetensors, save_transformers

PROGRAM = ROOT / "tests" / "support" / "saved_models.py"
MARK = "code-has-run"

# Why each of them is refused.
BAD = {
    "reads": "holds the operator ReadFile: a model may not use files",
    "writes": "holds the operator WriteFile",
    "lists": "holds the operator MatchingFiles",
    "python": "holds the operator EagerPyFunc",
    "numpy": "holds the operator PyFunc",
    "prints": "holds the operator PrintV2",
    "checkpoints": "holds the operator SaveV2",
    "table": "holds the operator InitializeTableFromTextFileV2",
    "dataset": "holds the operator TextLineDataset",
    "graph-in-text": "holds the operator DatasetFromGraph",
    "words-elsewhere": "holds the operator FixedUnigramCandidateSampler",
    "condition": "holds the operator WriteFile",
    "starts": "holds the operator WriteFile",
    "disguised": "calls __inference__traced_save_999, which uses files",
    "elsewhere": "the asset '../../../../etc/passwd' leads out of its folder",
    "short": "saved_model.pb is broken",
    "empty": "must hold one graph with the tag serve, and holds none",
    "text": "saved_model.pb is broken",
    "no-index": "variables/variables.index is missing",
    "no-variables": "cannot load it: ",
    "no-shard": "cannot load it: ",
    "short-shard": "cannot load it: ",
    "of-tf1": "was saved by TensorFlow 1",
    "doubled": "must hold one graph with the tag serve, and holds serve, serve",
    "unknown": "Op type not registered 'MatMulBetter'",
    "other-name": "has no signature serving_default, but predict",
    "complex": "output 'y' is complex64, which cannot be sent",
}

# What the environment with TensorFlow does not run: by format the library that does, and what the model is called.
OTHERS = {
    "exported": ("PyTorch", "a.pt2"),
    "torchscript": ("PyTorch", "a.pt"),
    "keras": ("PyTorch", "digits.keras"),
    "transformers": ("PyTorch", "bert"),
    "safetensors": ("PyTorch", "a.safetensors"),
    "onnx": ("ONNX Runtime", "a.onnx"),
}


@dataclass(frozen=True)
class Models:
    """The SavedModels of `saved_models.py`, and the environment that has TensorFlow."""

    folder: Path
    python: Path

    def run(self, *arguments: str) -> str:
        """Run the program that makes and judges them."""
        done = subprocess.run(
            [self.python, PROGRAM, *arguments],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
            env={"PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """All of them. The packages of the image with TensorFlow do not all go with ours: they have an environment."""
    environment = ensure("runtime-tensorflow", print, ROOT / "requirements" / "runtime-tensorflow.txt")
    folder = tmp_path_factory.mktemp("tensorflow")
    images, labels = load_digits(return_X_y=True)
    data = folder / "data.npz"
    np.savez(data, images=(images / 16).astype(np.float32), labels=labels)
    found = Models(folder, environment.python)
    found.run("make", str(folder), str(data))
    return found


@pytest.fixture(scope="module")
def judged(models: Models) -> dict[str, Any]:
    """What the backend made of each."""
    found: dict[str, Any] = json.loads(models.run("judge", str(models.folder)))
    return found


@pytest.fixture(scope="module")
def server(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """The runtime with the network that was trained on digits."""
    folder = tmp_path_factory.mktemp("served")
    with runtime(folder, f"file://{models.folder / 'digits'}", models.python) as process:
        process.wait_ready()
        yield process


def test_answers_are_those_that_tensorflow_gave_offline(models: Models, server: RuntimeProcess) -> None:
    data = np.load(models.folder / "data.npz")
    images = data["images"][1500:]
    image = triton.InferInput("image", images.shape, "FP32").set_data_from_numpy(images)
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    scores = client.infer("tiny", [image]).as_numpy("output_0")
    client.close()
    assert scores is not None
    np.testing.assert_allclose(scores, np.load(models.folder / "digits.npy"), rtol=1e-4, atol=1e-4)
    assert np.mean(scores.argmax(1) == data["labels"][1500:]) > 0.85


def test_the_metadata_is_that_of_serving_default(server: RuntimeProcess) -> None:
    assert server.get("/v2/models/tiny") == (
        200,
        {
            "name": "tiny",
            "versions": ["1"],
            "platform": "tensorflow_savedmodel",
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
            "outputs": [{"name": "output_0", "datatype": "FP32", "shape": [-1, 10]}],
        },
    )
    page = httpx.get(f"{server.url}/metrics").text
    assert 'format="tensorflow"' in page
    assert f"pilothouse_model_weight_bytes {4 * (64 * 64 + 64 + 64 * 10 + 10):.1f}\n" in page


def test_texts_and_words_of_the_models_own(models: Models, tmp_path: Path) -> None:
    with runtime(tmp_path, f"file://{models.folder / 'vocabulary'}", models.python) as process:
        process.wait_ready()
        asked = {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": ["house", "größe", "red"]}]
        }
        answer = httpx.post(f"{process.url}/v2/models/tiny/infer", json=asked, timeout=PATIENCE).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs == {"number": [1, -1, 0], "upper": ["HOUSE", "GRößE", "RED"]}


def test_good_models_are_batched(judged: dict[str, Any]) -> None:
    good = ("digits", "words", "vocabulary", "talks")
    assert {name: judged[name] for name in good} == dict.fromkeys(good, 32)
    assert judged.keys() == {*good, *BAD}


@pytest.mark.parametrize("name", BAD)
def test_bad_models(models: Models, judged: dict[str, Any], name: str) -> None:
    reason, permanent, message = judged[name]
    assert (reason, permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert message.startswith(name)
    assert BAD[name] in message
    assert not (models.folder / MARK).exists()


def test_a_bad_model_ends_the_server(models: Models, tmp_path: Path) -> None:
    with runtime(tmp_path, f"file://{models.folder / 'starts'}", models.python) as process:
        process.wait_listening()
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert BAD["starts"] in words.message
    assert not (models.folder / MARK).exists()


def test_several_workers_cannot_share_it(models: Models, tmp_path: Path) -> None:
    with runtime(tmp_path, f"file://{models.folder / 'digits'}", models.python, WORKERS="2") as process:
        process.wait_listening()
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert words.reason is FailureReason.INVALID_CONFIGURATION
    assert "must be 1 for this model: it starts threads of its own" in words.message


def test_the_default_image_names_the_other_one(models: Models, tmp_path: Path) -> None:
    assert refused(tmp_path, models.folder / "digits") == (
        "digits is of format tensorflow, and this image holds no TensorFlow: let runtime.image name the one that does"
        " (.../runtime-tensorflow, of the same version), or for a SavedModel outside of a folder of MLflow set"
        " model.format: tensorflow and leave it out"
    )


@pytest.mark.parametrize("kind", OTHERS)
def test_what_torch_and_onnx_runtime_run_is_for_the_default_image(
    models: Models, tmp_path: Path, kind: str
) -> None:
    library, name = OTHERS[kind]
    folder = tmp_path / "folder"
    folder.mkdir()
    assert refused(tmp_path, other(models, folder / name), models.python) == (
        f"{name} is of format {kind}, and this image holds no {library}: let runtime.image name the one that does"
        " (.../runtime, of the same version), or leave it out"
    )


def test_the_model_of_another_library_in_a_folder_of_mlflow(models: Models, tmp_path: Path) -> None:
    folder = save_mlflow(tmp_path / "m", {"onnx": {"data": "model.onnx"}})
    save_onnx(folder / "model.onnx")
    told = refused(tmp_path, folder, models.python)
    assert told.startswith("model.onnx is of format onnx, and this image holds no ONNX Runtime")


def test_explanations_and_packing_need_the_default_image(models: Models, tmp_path: Path) -> None:
    digits = models.folder / "digits"
    told = refused(tmp_path, digits, models.python, reason=FailureReason.INVALID_CONFIGURATION, EXPLAIN="1")
    assert told == (
        "PILOTHOUSE_EXPLAIN: must be left out for a model of format tensorflow here: this image holds no Captum; that"
        " of the other formats (.../runtime) does"
    )
    words = [models.python, "-m", "pilothouse_runtime", "pack", digits, "-e", models.folder / "data.npz"]
    done = subprocess.run(
        [*words, "-o", tmp_path / "packed"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "runtime")},
    )
    assert done.returncode == 1
    assert done.stderr == (
        "pilothouse-runtime pack: this needs PyTorch, which is not here: of the images, .../runtime holds it\n"
    )


def refused(
    folder: Path,
    model: Path,
    python: Path | None = None,
    reason: FailureReason = FailureReason.MODEL_LOAD_FAILED,
    **environment: str,
) -> str:
    """Return the last words of a server that cannot serve a model, for good and for this reason."""
    with runtime(folder, f"file://{model}", python, **environment) as process:
        process.wait_listening()
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (reason, True)
    return words.message


def other(models: Models, path: Path) -> Path:
    """Return a good model of this name that is not TensorFlow's."""
    match path.suffix:
        case ".pt2":
            return save_affine(path)
        case ".pt":
            return save_torchscript(Affine(), path)
        case ".keras":
            return models.folder / path.name
        case ".safetensors":
            return save_safetensors(path)
        case ".onnx":
            return save_onnx(path)
        case _:
            return save_transformers(path)


def test_the_same_network_from_keras_answers_the_same(models: Models, tmp_path: Path) -> None:
    images = np.load(models.folder / "data.npz")["images"][1500:1600]
    with runtime(tmp_path, f"file://{models.folder / 'digits.keras'}") as process:
        process.wait_ready()
        image = triton.InferInput("image", images.shape, "FP32").set_data_from_numpy(images)
        client = triton.InferenceServerClient(f"127.0.0.1:{process.port}")
        scores = client.infer("tiny", [image]).as_numpy("scores")
        client.close()
    np.testing.assert_allclose(scores, np.load(models.folder / "digits.npy")[:100], rtol=1e-4, atol=1e-4)
