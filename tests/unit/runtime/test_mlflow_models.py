"""Folders of MLflow: the model inside is found and served by its own format's backend."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.selection import Selected, select
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.written_models import (
    X,
    Y,
    mlflow_signature,
    save_mlflow,
    save_onnx,
    save_transformers,
)

AFFINE = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),))


def answers(selected: Selected) -> None:
    """Check that it is the affine model."""
    model = selected.load(torch.device("cpu") if selected.backend.on_torch else Device.CPU)
    warm_up(model, 4)
    assert model.signature is not None
    assert model.signature.inputs == AFFINE.inputs
    np.testing.assert_allclose(model.run([Tensor("x", Datatype.FP32, X)])[0].array, Y)


@pytest.mark.parametrize("wanted", [Format.AUTO, Format.MLFLOW])
def test_onnx(tmp_path: Path, wanted: Format) -> None:
    save_onnx(save_mlflow(tmp_path / "m", {"onnx": {"data": "model.onnx"}}) / "model.onnx")
    selected = select(tmp_path / "m", wanted)
    assert selected.backend.format is Format.ONNX
    answers(selected)


@pytest.mark.parametrize(("name", "inner"), [("affine.pt2", "model.pt2"), ("bare.pt", "model.pth")])
def test_torch(models: Path, tmp_path: Path, name: str, inner: str) -> None:
    folder = save_mlflow(tmp_path / "m", {"pytorch": {"model_data": "data"}}, signature=mlflow_signature())
    (folder / "data").mkdir()
    shutil.copy(models / name, folder / "data" / inner)
    answers(select(folder, Format.AUTO))


def test_transformers_with_the_tokenizer_beside(tmp_path: Path) -> None:
    folder = save_mlflow(
        tmp_path / "m", {"transformers": {"model_binary": "model", "task": "feature-extraction"}}
    )
    save_transformers(folder / "model")
    tokenizer = folder / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(folder / "model" / name, tokenizer / name)
    (folder / "model" / "vocab.txt").unlink()
    model = select(folder, Format.AUTO).load(torch.device("cpu"))
    assert warm_up(model, 4).max_batch == 4


@pytest.mark.parametrize(
    ("name", "inner", "found"),
    [
        ("keras", "data/model.keras", "keras"),
        ("keras", "data/model/saved_model.pb", "tensorflow"),
        ("tensorflow", "saved/saved_model.pb", "tensorflow"),
    ],
)
def test_what_others_load_is_handed_to_them(tmp_path: Path, name: str, inner: str, found: str) -> None:
    folder = save_mlflow(tmp_path / "m", {name: {"data": "data", "saved_model_dir": "saved"}})
    file = folder / inner
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not really one")
    if found == "keras":
        with pytest.raises(LoadError, match=r"model\.keras is no model but a text file"):
            select(folder, Format.AUTO)
    else:
        assert select_format(folder) == found


def select_format(folder: Path) -> str:
    """Return the format of what is in a folder, also where there is no backend for it in this image."""
    try:
        return str(select(folder, Format.AUTO).backend.format)
    except LoadError as error:
        return error.message.split("of format ", 1)[1].split(",", 1)[0]
