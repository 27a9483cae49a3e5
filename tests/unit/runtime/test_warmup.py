"""The first runs decide whether requests may be joined."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pilothouse_runtime.core.tensors import Array, Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine import warmup
from pilothouse_runtime.engine.backends import exported, torchscript
from pilothouse_runtime.engine.batchable import obstacle
from pilothouse_runtime.engine.likeness import difference
from pilothouse_runtime.engine.stacking import split, stack
from pilothouse_runtime.engine.warmup import warm_up
from tests.support import odd_rows
from tests.support.tiny_models import save_exported, save_torchscript

CPU = torch.device("cpu")
DIM = torch.export.Dim


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let large batches be tried however slow the machine is just now."""
    monkeypatch.setattr(warmup, "_AFFORDABLE", 60.0)


def scripted(
    module: nn.Module, folder: Path, x: list[int], y: list[int] | None = None, datatype: str = "FP32"
) -> torchscript.TorchScriptModel:
    signature: dict[str, Any] = {"inputs": [{"name": "x", "datatype": datatype, "shape": x}]}
    if y is not None:
        signature["outputs"] = [{"name": "y", "datatype": datatype, "shape": y}]
    return torchscript.load(save_torchscript(module.eval(), folder / "m.pt", signature), CPU, None)


@pytest.mark.parametrize("name", ["affine.pt", "affine.pt2", "mixer.pt2"])
def test_rows_that_do_not_know_of_each_other(models: Path, name: str) -> None:
    load = exported.load if name.endswith("2") else torchscript.load
    warm = warm_up(load(models / name, CPU, None), 32)
    assert (warm.max_batch, warm.reason) == (32, "")
    assert warm.seconds.keys() == {1, 2, 3, 32}
    assert all(0 < seconds < 1 for seconds in warm.seconds.values())


@pytest.mark.parametrize(
    ("module", "x", "y", "told"),
    [
        (
            odd_rows.Recurrent(),
            [-1, 3],
            None,
            "1 and 1 rows get another answer joined than alone: output 'output_0'",
        ),
        (
            odd_rows.Centred(),
            [-1, 3],
            [-1, 3],
            "get another answer joined than alone: output 'y' has other numbers",
        ),
        (odd_rows.Attending(), [-1, 4], [-1, 4], "get another answer joined than alone: output 'y'"),
        (odd_rows.Transposed(), [-1, 3], None, r"'output_0' has the shape \[3, 2\] for 2 rows"),
        (odd_rows.Summed(), [-1, 3], None, r"'output_0' has the shape \[\] for 2 rows"),
        (odd_rows.Counting(), [-1, 3], [-1, 3], "get another answer joined"),
        (odd_rows.Transposed(), [-1, 3], [3, -1], r"output 'y' has no free first dimension: FP32 \[3, -1\]"),
        (nn.ReLU(), [4, 3], [4, 3], r"input 'x' has no free first dimension: FP32 \[4, 3\]"),
    ],
)
def test_rows_that_do(
    tmp_path: Path, module: nn.Module, x: list[int], y: list[int] | None, told: str
) -> None:
    warm = warm_up(scripted(module, tmp_path, x, y), 8)
    assert warm.max_batch == 1
    assert re.search(told, warm.reason)
    assert warm.seconds[1] > 0


def test_models_that_write_to_their_inputs(tmp_path: Path) -> None:
    model = scripted(odd_rows.Scribbling(), tmp_path, [-1, 3], [-1, 3])
    assert warm_up(model, 8).max_batch == 8
    assert model.way != "as it is"


def test_whole_numbers_are_told_apart(tmp_path: Path) -> None:
    warm = warm_up(scripted(odd_rows.Counts(), tmp_path, [-1, 1], [-1, 1], "INT64"), 8)
    assert "another answer joined than alone" in warm.reason


def test_without_a_signature_or_when_nobody_asks(models: Path) -> None:
    warm = warm_up(torchscript.load(models / "bare.pt", CPU, None), 8)
    assert (warm.max_batch, warm.reason, warm.seconds) == (1, "the model has no signature", {})
    warm = warm_up(torchscript.load(models / "affine.pt", CPU, None))
    assert (warm.max_batch, warm.reason, warm.seconds.keys()) == (1, "", {1})


def test_bounds_of_an_exported_batch(tmp_path: Path) -> None:
    shapes = ({0: DIM("rows", max=6)},)
    model = exported.load(
        save_exported(nn.ReLU(), tmp_path / "m.pt2", (torch.zeros(2, 3),), shapes), CPU, None
    )
    assert model.max_rows == 6
    warm = warm_up(model, 32)
    assert (warm.max_batch, warm.reason) == (6, "the model's file allows 6 rows")
    assert 6 in warm.seconds


@pytest.mark.parametrize("dim", [2 * DIM("half", min=1, max=9), DIM("rows", min=4, max=64)])
def test_single_rows_that_do_not_fit(tmp_path: Path, dim: Any) -> None:
    file = save_exported(nn.ReLU(), tmp_path / "m.pt2", (torch.zeros(4, 3),), ({0: dim},))
    warm = warm_up(exported.load(file, CPU, None), 32)
    assert warm.max_batch == 1
    assert "of 1 and 1 rows, joined: the tensors do not fit the model" in warm.reason


def test_a_limit_that_only_running_shows(tmp_path: Path) -> None:
    warm = warm_up(scripted(odd_rows.Small(), tmp_path, [-1, 3]), 16)
    assert warm.max_batch == 4
    assert warm.reason.startswith("8 rows at once: the tensors do not fit the model")
    assert 4 in warm.seconds


class Normed(nn.Module):
    """A convolution whose batch norm freezing folds into it."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_frozen_models_answer_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    module = Normed(dtype).eval()
    datatype = {torch.float32: "FP32", torch.bfloat16: "BF16", torch.float64: "FP64"}[dtype]
    model = scripted(module, tmp_path, [-1, 3, 8, 8], [-1, 4], datatype)
    assert warm_up(model, 8).max_batch == 8
    assert model.way != "as it is"
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    kind = Datatype(datatype)
    with torch.inference_mode():
        want = Tensor("y", kind, module(x).double().numpy().astype(kind.dtype))
    array = x.double().numpy().astype(kind.dtype)
    assert difference(model.run([Tensor("x", kind, array)]), [want]) == ""


def test_models_with_a_memory_are_not_frozen(tmp_path: Path) -> None:
    model = scripted(odd_rows.Counting(), tmp_path, [-1, 3])
    warm_up(model)
    assert model.way == "as it is"
    x = Tensor("x", Datatype.FP32, np.zeros((1, 3), np.float32))
    first, second = (model.run([x])[0].array[0, 0] for _ in range(2))
    assert second == first + 1


def test_a_model_that_freezing_would_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = scripted(nn.Sigmoid(), tmp_path, [-1, 3])._module
    model = scripted(nn.ReLU(), tmp_path, [-1, 3])
    monkeypatch.setattr(torchscript, "_frozen", lambda module: other)
    warm_up(model)
    assert model.way == "as it is"
    monkeypatch.setattr(torchscript, "_frozen", lambda module: 1 / 0)
    model = scripted(nn.ReLU(), tmp_path, [-1, 3])
    warm_up(model)
    assert model.way == "as it is"


def like(got: Array, want: Array, datatype: Datatype = Datatype.FP32) -> str:
    return difference([Tensor("y", datatype, got)], [Tensor("y", datatype, want)])


def test_likeness() -> None:
    one = np.array([1.0, np.nan, np.inf], np.float32)
    assert like(one, one) == ""
    assert like(one * np.float32(1.0005), one) == ""
    assert like(np.array([1.1], np.float32), np.array([1.0], np.float32)) == "output 'y' has other numbers"
    assert like(np.array([np.nan]), np.array([1.0])) == "output 'y' has other numbers"
    assert like(np.array([1000, 0.005]), np.array([1000, 0.0])) == ""  # as far off as 1000 may be
    assert like(np.array([1, 2]), np.array([1, 3]), Datatype.INT64) == "output 'y' has other numbers"
    assert like(np.zeros((0, 3)), np.zeros((0, 3))) == ""
    assert like(np.zeros(2), np.zeros(3)) == "output 'y' is FP32 [2] instead of FP32 [3]"
    assert difference([], [Tensor("y", Datatype.FP32, one)]) == "outputs  instead of y"


def test_joined_requests_of_bf16(tmp_path: Path) -> None:
    model = scripted(nn.Linear(3, 2).to(torch.bfloat16), tmp_path, [-1, 3], [-1, 2], "BF16")
    assert warm_up(model, 4).max_batch == 4
    jobs = [[Tensor("x", Datatype.BF16, np.full((1, 3), n, Datatype.BF16.dtype))] for n in (1, 2)]
    together = split(model.run(stack(jobs)), [1, 1])
    for job, outputs in zip(jobs, together, strict=True):
        assert difference(outputs, model.run(job)) == ""


def test_inputs_that_have_no_rows() -> None:
    assert obstacle(Signature((), ())) == "the model has no inputs"
    scalar = Signature((TensorSpec("x", Datatype.FP32, ()),), ())
    assert obstacle(scalar) == "input 'x' has no free first dimension: FP32 []"
