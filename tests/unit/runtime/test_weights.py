"""Files of weights, for networks that the spec names."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.model import Options
from pilothouse_runtime.engine.selection import select
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.tiny_models import Affine, Bomb
from tests.support.written_models import FACTORY, X, Y, save_safetensors

CPU = torch.device("cpu")
AFFINE = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),))


def save_state_dict(path: Path) -> Path:
    torch.save(Affine().state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "make", "wanted", "found"),
    [
        ("a.safetensors", save_safetensors, Format.AUTO, Format.SAFETENSORS),
        ("a.pt", save_state_dict, Format.STATEDICT, Format.STATEDICT),
    ],
)
@pytest.mark.parametrize("declared", [AFFINE, None])
def test_weights_in_the_network_that_is_named(
    tmp_path: Path, name: str, make: object, wanted: Format, found: Format, declared: Signature | None
) -> None:
    file = make(tmp_path / name)  # type: ignore[operator]
    model = select(file, wanted, declared, Options(FACTORY)).load(CPU)
    assert (model.format, model.signature, model.weight_bytes) == (found, declared, 32)
    warm = warm_up(model, 8)
    assert warm.max_batch == (8 if declared else 1)
    np.testing.assert_allclose(model.run([Tensor("x", Datatype.FP32, X)])[0].array, Y)


class Minus(nn.Module):
    """Order matters."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left - right


def test_inputs_go_by_name(tmp_path: Path) -> None:
    file = tmp_path / "none.pt"
    torch.save({}, file)
    declared = Signature(tuple(TensorSpec(name, Datatype.FP32, (-1,)) for name in ("right", "left")), ())
    model = select(file, Format.STATEDICT, declared, Options(f"{__name__}:Minus")).load(CPU)
    right, left = np.array([3], np.float32), np.array([5], np.float32)
    outputs = model.run([Tensor("right", Datatype.FP32, right), Tensor("left", Datatype.FP32, left)])
    assert outputs[0].array.tolist() == [2]


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("", "holds weights only; name what makes the network in model.factory"),
        ("no_such_package.models:resnet", "No module named 'no_such_package'"),
        ("tests.support.tiny_models:Nothing", "has no attribute 'Nothing'"),
        ("tests.support.tiny_models:Sleeper", "missing 1 required positional argument: 'rounds'"),
        ("builtins:dict", "gives a dict, and not a module of torch"),
        ("sys:exit", "SystemExit"),
    ],
)
def test_factories_that_make_nothing(tmp_path: Path, factory: str, told: str) -> None:
    with pytest.raises(LoadError, match=told) as caught:
        select(save_safetensors(tmp_path / "a.safetensors"), Format.AUTO, None, Options(factory)).load(CPU)
    assert caught.value.permanent


def test_no_code_from_beside_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_the_weights.py").write_text(f"import os; os.mkdir({str(tmp_path / 'canary')!r})")
    monkeypatch.syspath_prepend(tmp_path)  # as it is where the runtime is started in the model's folder
    options = Options("beside_the_weights:Network")
    with pytest.raises(
        LoadError, match=r"lies beside the model: code from there is run only with model.format python"
    ):
        select(save_safetensors(tmp_path / "a.safetensors"), Format.AUTO, None, options).load(CPU)
    assert not (tmp_path / "canary").exists()
    assert "beside_the_weights" not in sys.modules


def test_a_state_dict_that_somebody_compressed(tmp_path: Path) -> None:
    plain = save_state_dict(tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(plain) as old,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    model = select(tmp_path / "a.pt", Format.STATEDICT, AFFINE, Options(FACTORY)).load(CPU)
    np.testing.assert_allclose(model.run([Tensor("x", Datatype.FP32, X)])[0].array, Y)


@pytest.mark.parametrize(
    ("make", "wanted"), [(save_state_dict, Format.STATEDICT), (save_safetensors, Format.SAFETENSORS)]
)
def test_weights_outlive_their_file(tmp_path: Path, make: object, wanted: Format) -> None:
    file = make(tmp_path / "a")  # type: ignore[operator]
    model = select(file, wanted, AFFINE, Options(FACTORY)).load(CPU)
    file.write_bytes(b"")  # in place: what is still mapped would be gone
    np.testing.assert_allclose(model.run([Tensor("x", Datatype.FP32, X)])[0].array, Y)


def test_weights_of_another_network(tmp_path: Path) -> None:
    file = save_safetensors(tmp_path / "a.safetensors", **{"linear.bias": torch.zeros(5)})
    told = r"a.safetensors does not fit the network of .*:Affine: size mismatch for linear.bias"
    with pytest.raises(LoadError, match=told):
        select(file, Format.AUTO, None, Options(FACTORY)).load(CPU)


def test_a_state_dict_with_more_than_tensors(tmp_path: Path) -> None:
    torch.save({"linear.weight": Bomb(tmp_path / "canary")}, tmp_path / "a.pt")
    with pytest.raises(
        LoadError, match=r"its pickle asks for \w+\.mkdir, which is never loaded; save the weights"
    ):
        select(tmp_path / "a.pt", Format.STATEDICT, None, Options(FACTORY)).load(CPU)
    assert not (tmp_path / "canary").exists()


def test_an_example_describes_the_inputs(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "a.safetensors")
    np.savez(tmp_path / "example.npz", **{"input.x": X})
    model = select(tmp_path, Format.AUTO, None, Options(FACTORY)).load(CPU)
    assert model.signature == Signature(AFFINE.inputs, ())
    assert warm_up(model, 8).max_batch == 8
    declared = select(tmp_path, Format.AUTO, AFFINE, Options(FACTORY)).load(CPU)
    assert declared.signature == AFFINE
