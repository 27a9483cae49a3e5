"""Models whose layers are fused answer as they did before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pilothouse_runtime.core.tensors import Datatype
from pilothouse_runtime.core.tensors import Tensor as Carried
from pilothouse_runtime.engine.backends import torchscript
from pilothouse_runtime.engine.backends.program import plain_function
from pilothouse_runtime.engine.fused import fuse
from pilothouse_runtime.engine.scripted import NotStraightError, as_graph
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.tiny_models import save_torchscript

ONEDNN = torch.ops.mkldnn
CONVOLUTION = ONEDNN._convolution_pointwise.default
SUM = ONEDNN._convolution_pointwise.binary
LINEAR = ONEDNN._linear_pointwise.default


class Then(nn.Module):
    """A layer, and what is done with what it gives and with its input."""

    def __init__(self, layer: nn.Module, then: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.layer(x), x)


def program(module: nn.Module, x: Tensor) -> fx.GraphModule:
    rows = {0: torch.export.Dim("rows", min=1, max=64)}
    exported = torch.export.export(module.eval(), (x,), dynamic_shapes=(rows,))
    return exported.module(check_guards=False)


def normed(*layers: nn.Module) -> nn.Sequential:
    """Return layers and a batch norm that does something."""
    norm = nn.BatchNorm2d(4)
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        assert values is not None
        values.data.uniform_(0.5, 1.5)
    return nn.Sequential(*layers, norm)


def conv(**more: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, **more)


IMAGE, ROWS = (2, 4, 6, 5), (2, 4)


@pytest.mark.parametrize(
    ("layer", "then", "shape", "left"),
    [
        (conv(), lambda y, x: y, IMAGE, [CONVOLUTION]),
        (conv(groups=2, dilation=2, stride=2), lambda y, x: functional.silu(y), IMAGE, [CONVOLUTION]),
        (conv(bias=False), lambda y, x: y.relu(), IMAGE, [CONVOLUTION]),
        (normed(conv(bias=False)), lambda y, x: functional.relu_(y), IMAGE, [CONVOLUTION]),
        (normed(conv()), lambda y, x: torch.sigmoid(y), IMAGE, [CONVOLUTION]),
        (nn.Sequential(conv(), nn.Tanh(), conv()), lambda y, x: y, IMAGE, [CONVOLUTION, CONVOLUTION]),
        (normed(conv()), lambda y, x: (x.neg() + y).relu(), IMAGE, [torch.ops.aten.neg.default, SUM]),
        (conv(), lambda y, x: (y + x.mean((2, 3), keepdim=True)).relu(), IMAGE, None),
        (conv(), lambda y, x: torch.add(y, x.neg(), alpha=2), IMAGE, None),
        (conv(), lambda y, x: y + y.relu(), IMAGE, None),
        (conv(), lambda y, x: x.neg().add_(y), IMAGE, None),
        (conv(), lambda y, x: y.flatten(1), IMAGE, None),
        (conv(), lambda y, x: y.view(y.shape[0], -1), IMAGE, None),
        (nn.Linear(4, 3), lambda y, x: functional.gelu(y), ROWS, [LINEAR]),
        (nn.Linear(4, 3, bias=False), lambda y, x: functional.gelu(y, approximate="tanh"), ROWS, [LINEAR]),
        (nn.Linear(4, 3), lambda y, x: y.relu(), (2, 5, 4), [LINEAR]),
        (nn.Linear(4, 4), lambda y, x: x.neg() + y, ROWS, None),
    ],
)  # fmt: skip
def test_layers_and_what_follows_them(
    layer: nn.Module, then: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], left: Any
) -> None:
    torch.manual_seed(3)
    module = Then(copy.deepcopy(layer), then).eval()
    fused = fuse(program(module, torch.randn(shape)))
    assert fused is not None
    if left is not None:
        called = [node.target for node in fused.graph.nodes if node.op == "call_function"]
        assert called == left
    run = plain_function(fused, {})
    for rows in (1, 2, 5):
        x = torch.randn(rows, *shape[1:])
        with torch.inference_mode():
            torch.testing.assert_close(run(x.clone())[0], module(x), rtol=1e-4, atol=1e-5)


class Written(nn.Module):
    """What the convolution has read is written to before its result is used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        held = x * 2
        y = self.layer(held)
        held.mul_(3)
        return (y + held).relu()


def test_nothing_is_moved_over_what_writes() -> None:
    module, x = Written().eval(), torch.randn(IMAGE)
    fused = fuse(program(module, x))
    assert fused is not None
    with torch.inference_mode():
        torch.testing.assert_close(plain_function(fused, {})(x)[0], module(x), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_fused() -> None:
    x = torch.randn(2, 4)
    assert fuse(program(nn.ReLU(), x)) is None
    assert fuse(program(nn.Linear(4, 3).double(), x.double())) is None
    assert fuse(program(Then(nn.Linear(4, 4), lambda y, x: y.as_strided((2, 2), (1, 2))), x)) is None
    product = Then(nn.Identity(), lambda y, x: functional.linear(y, x))  # its weights are an input
    assert fuse(program(product, x)) is None


def test_weights_that_nothing_needs_are_let_go() -> None:
    fused = fuse(program(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(2, 4)))
    assert fused is not None
    assert not [*fused.parameters()]
    assert [name for name in vars(fused) if name.startswith("fused_")] == [
        "fused_weight_0",
        "fused_bias_1",
    ] or [*fused._buffers] == ["fused_weight_0", "fused_bias_1"]


class Several(nn.Module):
    """Numbers, sizes, lists and conversions, as traces have them."""

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        left, right = torch.chunk(x, 2, 1)
        rows = x.shape[0]
        both = torch.cat([left, right], 1).reshape(rows, -1).to(torch.float64).to(torch.float32)
        return {"sum": both + y.float() * 2, "shape": torch.zeros(rows, 2, dtype=torch.int64)}


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            return x * 2
        return x


def frozen(module: nn.Module, path: Path) -> torch.jit.ScriptModule:
    file = save_torchscript(module.eval(), path, None)
    return torchscript._frozen(torchscript.load(file, torch.device("cpu"), None)._module)


def test_torchscript_as_a_graph(tmp_path: Path) -> None:
    module = frozen(Several(), tmp_path / "m.pt")
    graph, names = as_graph(module, 2)
    x, y = torch.randn(3, 4), torch.ones(3, 4, dtype=torch.int64)
    want = module(x, y)
    assert names == tuple(want)
    for got, expected in zip(plain_function(graph, {})(x, y), want.values(), strict=True):
        torch.testing.assert_close(got, expected)


def test_torchscript_that_is_no_straight_line(tmp_path: Path) -> None:
    module = frozen(Branching(), tmp_path / "m.pt")
    with pytest.raises(NotStraightError, match="a node of kind prim::If"):
        as_graph(module, 1)
    with pytest.raises(NotStraightError, match="defaults"):
        as_graph(module, 2)
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}
    path = save_torchscript(Branching(), tmp_path / "m.pt", signature)
    model = torchscript.load(path, torch.device("cpu"), None)
    warm_up(model)
    assert model.way == "frozen"
    for x in (np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)):
        (answer,) = model.run([Carried("x", Datatype.FP32, x)])
        np.testing.assert_array_equal(answer.array, x * 2 if x.sum() > 0 else x)
