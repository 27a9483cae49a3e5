"""Keras models: what they answer, how they are described, and what their files may not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dev.shell import ROOT
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import ANY, Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.backends import keras3
from pilothouse_runtime.engine.batchable import made_up
from pilothouse_runtime.engine.formats import detect
from pilothouse_runtime.engine.warmup import Warm, warm_up
from tests.support import keras_models
from tests.support.keras_models import BAD, digits, parts

CPU = torch.device("cpu")
# Of Keras's variables when they are saved or asked for as arrays, in torch's and numpy's newest versions.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A network trained on digits: its file, and itself."""
    file = tmp_path_factory.mktemp("keras") / "digits.keras"
    return file, keras_models.train_digits(file)


def served(file: Path, declared: Signature | None = None) -> tuple[keras3.KerasModel, Warm]:
    """Do with a file all that the runtime would do before it takes requests."""
    assert detect(file, Format.AUTO) is Format.KERAS
    model = keras3.load(file, CPU, declared)
    return model, warm_up(model, 32)


def saved(model: Any, tmp_path: Path) -> Path:
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_answers_are_those_that_keras_gives(trained: tuple[Path, Any]) -> None:
    file, offline = trained
    model, warm = served(file)
    assert model.signature == Signature(
        (TensorSpec("image", Datatype.FP32, (ANY, 64)),), (TensorSpec("scores", Datatype.FP32, (ANY, 10)),)
    )
    images, labels = digits()
    (scores,) = model.run([Tensor("image", Datatype.FP32, images[1500:])])
    assert np.mean(scores.array.argmax(1) == labels[1500:]) > 0.8
    np.testing.assert_allclose(scores.array, offline.predict(images[1500:], verbose=0), rtol=1e-4, atol=1e-4)
    assert (warm.max_batch, warm.reason) == (32, "")
    assert model.is_exported
    assert model.weight_bytes >= sum(weight.numpy().nbytes for weight in offline.weights)


@pytest.mark.parametrize(
    ("make", "inputs", "outputs"),
    [
        (keras_models.trees, {"left", "right"}, {"double", "total"}),
        (keras_models.lists, {"x", "y"}, {"dense", "dense_1"}),
        (keras_models.nested, {"x"}, {"inner"}),
        (keras_models.sequence, {"tokens"}, {"mood"}),
    ],
)
def test_models_of_many_shapes(
    tmp_path: Path, make: Callable[[], Any], inputs: set[str], outputs: set[str]
) -> None:
    offline = make()
    model, warm = served(saved(offline, tmp_path))
    assert model.signature is not None
    assert {spec.name for spec in model.signature.inputs} == inputs
    assert {spec.name for spec in model.signature.outputs} == outputs
    assert warm.max_batch == 32
    sizes = [7 if spec.shape[1] == ANY else spec.shape[1] for spec in model.signature.inputs]
    asked = made_up(model.signature, tuple((5, size) for size in sizes))
    answers = {tensor.name: tensor.array for tensor in model.run(asked)}
    given = {tensor.name: tensor.array for tensor in asked}
    values = [*given.values()]
    want = offline(given if isinstance(offline.input, dict) else values if len(values) > 1 else values[0])
    want = (
        want
        if isinstance(want, dict)
        else dict(zip(answers, [*want] if isinstance(want, list) else [want], strict=True))
    )
    assert want.keys() == answers.keys()
    for name, tensor in want.items():
        np.testing.assert_allclose(answers[name], tensor.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_model_with_a_memory_runs_alone_and_by_keras(tmp_path: Path) -> None:
    model, warm = served(saved(keras_models.remembering(), tmp_path))
    assert not model.is_exported
    assert warm.max_batch == 1


def test_layers_may_be_given_other_names_as_outputs_and_inputs_may_not(trained: tuple[Path, Any]) -> None:
    inputs = (TensorSpec("image", Datatype.FP32, (ANY, 64)),)
    outputs = (TensorSpec("logits", Datatype.FP32, (ANY, 10)),)
    model, _ = served(trained[0], Signature(inputs, outputs))
    assert model.signature == Signature(inputs, outputs)
    with pytest.raises(LoadError, match=r"digits\.keras: model\.inputs and model\.outputs contradict"):
        served(trained[0], Signature((TensorSpec("pixels", Datatype.FP32, (ANY, 64)),), ()))


@pytest.mark.parametrize("name", BAD)
def test_bad_files(trained: tuple[Path, Any], tmp_path: Path, name: str) -> None:
    make, told = BAD[name]
    file = tmp_path / "bad.keras"
    make(parts(trained[0]), file)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LoadError, match=rf"(?s)bad\.keras.*{told}") as caught:
        served(file)
    assert caught.value.permanent
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated_files(trained: tuple[Path, Any], tmp_path: Path, share: float) -> None:
    content = trained[0].read_bytes()
    file = tmp_path / "short.keras"
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(LoadError, match=r"short\.keras .*cut off"):
        served(file)
    weights = parts(trained[0])
    weights[keras_models.WEIGHTS] = weights[keras_models.WEIGHTS][
        : int(len(weights[keras_models.WEIGHTS]) * share)
    ]
    keras_models.packed(weights, file)
    with pytest.raises(LoadError, match=r"short\.keras: model\.weights\.h5 is broken: .*truncated"):
        served(file)


def test_files_of_earlier_days_are_told_how_to_be_saved(trained: tuple[Path, Any], tmp_path: Path) -> None:
    file = tmp_path / "old.h5"
    file.write_bytes(parts(trained[0])[keras_models.WEIGHTS])
    with pytest.raises(LoadError, match=r"old\.h5 is no model but an HDF5 file .*\.keras"):
        detect(file, Format.AUTO)


def test_models_of_torch_do_not_wait_for_other_libraries(models: Path) -> None:
    program = (
        "import sys, torch; from pathlib import Path; import pilothouse_runtime.app;"
        "from pilothouse_runtime.core.settings import Format;"
        "from pilothouse_runtime.engine.registry import BACKENDS; from pilothouse_runtime.engine.warmup import warm_up;"
        f"warm_up(BACKENDS[Format.EXPORTED].load(Path({str(models / 'affine.pt2')!r}), torch.device('cpu'), None), 32);"
        "print(*sorted({'keras', 'tensorflow', 'h5py', 'onnxruntime', 'transformers'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "runtime")},
    )
    assert done.stdout.strip() == ""
