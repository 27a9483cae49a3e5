"""Models that compute with fewer bits, because the spec says so: checked against what they answered before."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Optimize
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor
from pilothouse_runtime.engine import graph_model
from pilothouse_runtime.engine.backends import exported, torchscript
from pilothouse_runtime.engine.likeness import deviation
from pilothouse_runtime.engine.model import Options
from pilothouse_runtime.engine.optimizing import TOLERANCES
from pilothouse_runtime.engine.warmup import warm_up
from tests.support import odd_rows
from tests.support.tiny_models import Moody, save_exported, save_torchscript

CPU = torch.device("cpu")


class Network(nn.Module):
    """A convolution with its norm, a sum, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.head((self.second(y) + y).relu().mean((2, 3)))


def saved(module: nn.Module, folder: Path, kind: str, x: list[int]) -> Path:
    module = module.eval()
    if kind == "exported":
        example = (torch.zeros(2, *x[1:]),)
        return save_exported(module, folder / "m.pt2", example, ({0: torch.export.Dim("rows", max=64)},))
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": x}]}
    return save_torchscript(module, folder / "m.pt", signature)


def load(file: Path, optimize: Optimize) -> Any:
    backend = exported if file.suffix == ".pt2" else torchscript
    return backend.load(file, CPU, None, Options(optimize=optimize))


@pytest.mark.parametrize("kind", ["exported", "torchscript"])
@pytest.mark.parametrize("optimize", [Optimize.BF16, Optimize.INT8])
def test_answers_are_near_and_batches_are_right(tmp_path: Path, kind: str, optimize: Optimize) -> None:
    torch.manual_seed(2)
    module = Network().eval()
    model = load(saved(module, tmp_path, kind, [-1, 3, 8, 8]), optimize)
    warm = warm_up(model, 8)
    assert (model.way, warm.max_batch, warm.reason) == (optimize, 8, "")
    x = torch.randn(3, 3, 8, 8)
    with torch.inference_mode():
        want = [Tensor("output_0", Datatype.FP32, module(x).numpy())]
    off, _ = deviation(model.run([Tensor("x", Datatype.FP32, x.numpy())]), want)
    assert 0 < off < 2 * TOLERANCES[optimize]  # other inputs than those that were checked


def refusal(module: nn.Module, folder: Path, optimize: Optimize, x: list[int]) -> str:
    with pytest.raises(LoadError) as caught:
        warm_up(load(saved(module, folder, "torchscript", x), optimize))
    assert (caught.value.reason, caught.value.permanent) == (FailureReason.OPTIMIZATION_FAILED, True)
    return caught.value.message


def test_models_that_cannot_be_run_so(tmp_path: Path) -> None:
    told = refusal(nn.ReLU(), tmp_path, Optimize.BF16, [-1, 3])
    assert told == "runtime.optimize is bf16, but it has no layers that this can be done with; set it to none"
    assert "has no layers" in refusal(nn.Conv2d(3, 3, 1), tmp_path, Optimize.INT8, [-1, 3, 4, 4])
    assert "answers otherwise each time" in refusal(odd_rows.Counting(), tmp_path, Optimize.INT8, [-1, 3])
    assert "does not take made-up inputs" in refusal(Moody(), tmp_path, Optimize.INT8, [-1, 3])


def test_a_model_that_takes_no_made_up_inputs_is_left_as_it_is(tmp_path: Path) -> None:
    model = load(saved(Moody(), tmp_path, "torchscript", [-1, 3]), Optimize.NONE)
    warm_up(model, 8)
    assert model.way == graph_model.AS_IT_IS
    assert model.run([Tensor("x", Datatype.FP32, np.ones((1, 3), np.float32))])[0].array.tolist() == [
        [1.0] * 3
    ]


class Cancelling(nn.Module):
    """The difference of two numbers that are nearly the same: what rounding leaves of it is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + 1000.0) - self.layer(x + 1000.01)


class Outlier(nn.Module):
    """One number of each row is so large that the rest is nothing beside it, and counts for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)
        self.layer.weight.data[:, 0] = 0
        self.register_buffer("large", torch.tensor([1e6, *[0.0] * 7]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.large)


@pytest.mark.parametrize(
    ("module", "optimize", "allowed"),
    [(Cancelling(), Optimize.BF16, "2%"), (Outlier(), Optimize.INT8, "5%")],
)
def test_answers_that_are_too_far_off(
    tmp_path: Path, module: nn.Module, optimize: Optimize, allowed: str
) -> None:
    told = refusal(module, tmp_path, optimize, [-1, 8])
    assert "changes output 'output_0' by" in told
    assert f"and {allowed} is what it may; set it to none" in told


def off(got: Array, want: Array, datatype: Datatype = Datatype.FP32) -> float:
    return deviation([Tensor("y", datatype, got)], [Tensor("y", datatype, want)])[0]


def test_how_far_off_answers_are() -> None:
    want = np.array([10.0, -100.0], np.float32)
    assert off(want, want) == 0
    assert off(want + 1, want) == pytest.approx(0.01)
    assert off(np.zeros(2), np.zeros(2)) == 0
    assert off(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0
    assert off(np.array([np.nan, 1.0]), np.array([1.0, 1.0])) == math.inf
    assert off(np.array([1.0, np.inf]), np.array([1.0, np.nan])) == math.inf
    assert off(np.zeros(3), want) == math.inf
    assert off(np.array([1, 2]), np.array([1, 3]), Datatype.INT64) == math.inf
    assert off(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    assert deviation([], [Tensor("y", Datatype.FP32, want)])[0] == math.inf


def test_what_is_explained_by_gradients_keeps_them(tmp_path: Path) -> None:
    for kind in ("exported", "torchscript"):
        file = saved(Network(), tmp_path, kind, [-1, 3, 8, 8])
        backend = exported if kind == "exported" else torchscript
        model = backend.load(file, CPU, None, Options(gradients=True))
        warm_up(model)
        x = torch.randn(1, 3, 8, 8, requires_grad=True)
        answer = model.call([x])
        leaf = answer[0] if isinstance(answer, tuple) else answer
        leaf.sum().backward()
        assert x.grad is not None
        assert model.way != "fused"
