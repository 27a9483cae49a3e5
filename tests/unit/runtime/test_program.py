"""Exported programs as plain functions: they do what torch's own modules of them do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor as TorchTensor
from torch import nn

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.engine.backends import exported
from pilothouse_runtime.engine.backends.program import plain_function
from tests.support.tiny_models import save_exported

CPU = torch.device("cpu")
ROWS = torch.export.Dim("rows", max=7)


class Stateful(nn.Module):
    """Changes a buffer and its input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))
        self.register_buffer("passing", torch.ones(3), persistent=False)

    def forward(self, x: TorchTensor) -> TorchTensor:
        x.mul_(2)
        self.total += x.sum(0)
        return self.total + self.passing


class Manifold(nn.Module):
    """Results doubled, passed on, made of lists; unused and constant arguments; another mode inside."""

    def forward(
        self, x: TorchTensor, unused: TorchTensor, none: None, scale: float, *, bias: TorchTensor
    ) -> dict[str, Any]:
        with torch.no_grad():
            y = torch.cat([x * scale, bias]).split(2)
        return {"a": y[0], "b": [y[0], x], "c": (y[1], torch.full_like(x, float("inf")))}


class Keywords(nn.Module):
    """Operators with keyword arguments, dtypes and slices."""

    def forward(self, x: TorchTensor) -> tuple[TorchTensor, ...]:
        y = x.to(torch.float64).sum(dim=1, keepdim=True, dtype=torch.float32)
        z = torch.nn.functional.interpolate(x[None, None, :, ::2], scale_factor=2.0, mode="nearest")
        return y, z, torch.zeros_like(x).random_(1), x.new_ones(x.shape[0], 2, dtype=torch.int64)


CASES = [
    (Stateful(), (torch.ones(2, 3),), {}),
    (Manifold(), (torch.ones(2, 3), torch.ones(1), None, 3.0), {"bias": torch.ones(2, 3)}),
    (Keywords(), (torch.arange(8.0).reshape(2, 4),), {}),
]


@pytest.mark.parametrize(("module", "args", "keywords"), CASES)
def test_what_torchs_own_module_does(
    module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    program = torch.export.export(module, args, keywords)
    constants = {index: value for index, value in enumerate(args) if not isinstance(value, torch.Tensor)}
    function = plain_function(program.module(check_guards=False), constants)
    theirs = torch.export.export(copy.deepcopy(module), args, keywords).module(check_guards=False)
    for _ in range(2):  # a state is kept
        mine = [value.clone() for value in (*args, *keywords.values()) if isinstance(value, torch.Tensor)]
        its = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, (args, keywords))
        with torch.inference_mode():
            got = function(*mine)
            want = torch.utils._pytree.tree_leaves(theirs(*its[0], **its[1]))
        torch.testing.assert_close(list(got), want, rtol=0, atol=0)
        left = torch.utils._pytree.tree_leaves(its)
        torch.testing.assert_close(mine, [value for value in left if isinstance(value, torch.Tensor)])


def test_no_text_of_the_file_becomes_source() -> None:
    program = torch.export.export(nn.ReLU(), (torch.ones(2),))
    module = program.module(check_guards=False)
    for node in module.graph.nodes:
        node.name = "import os\n"
    assert plain_function(module, {})(torch.tensor([-1.0, 2.0]))[0].tolist() == [0, 2]


def test_names_that_no_operator_has() -> None:
    module = torch.export.export(nn.Softmax(1), (torch.ones(2, 2),)).module(check_guards=False)
    node = module.graph.find_nodes(op="call_function", target=torch.ops.aten.softmax.int)[0]
    node.kwargs = {"dim=os.system('true'), dtype": None}
    with pytest.raises(ValueError, match="an operator's argument is called"):
        plain_function(module, {})


def test_other_kinds_of_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="a node of kind call_module"):
        plain_function(torch.fx.symbolic_trace(nn.Sequential(nn.ReLU())), {})


class Two(nn.Module):
    def forward(self, x: TorchTensor, y: TorchTensor) -> dict[str, TorchTensor]:
        return {"sum": x + y}


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ((8, 3), (8, 3), "Expected input at 'x'.shape[0] to be <= 7, but got 8"),
        ((2, 3), (3, 3), "Expected input at 'y'.shape[0] to be equal to 2, but got 3"),
        ((2, 4), (2, 3), "Expected input at 'x'.shape[1] to be equal to 3, but got 4"),
        ((2, 3, 1), (2, 3), "Unexpected number of dimensions in input at 'x'.shape"),
    ],
)
def test_sizes_are_checked_in_each_call(
    tmp_path: Path, x: tuple[int, ...], y: tuple[int, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "_REMEMBERED", 2)
    file = save_exported(
        Two(), tmp_path / "m.pt2", (torch.ones(2, 3), torch.ones(2, 3)), {"x": {0: ROWS}, "y": {0: ROWS}}
    )
    model = exported.load(file, CPU, None)

    def run(*shapes: tuple[int, ...]) -> Any:
        return model.run([Tensor("", Datatype.FP32, np.ones(shape, np.float32)) for shape in shapes])[0]

    for rows in (1, 2, 7, 2, 1):
        assert run((rows, 3), (rows, 3)).array.tolist() == [[2, 2, 2]] * rows
        for _ in range(2):
            with pytest.raises(RequestError) as caught:
                run(x, y)
            assert caught.value.code is Code.INVALID_ARGUMENT
            assert told in caught.value.message


def test_weights_that_share_memory_count_once(models: Path, tmp_path: Path) -> None:
    assert exported.load(models / "affine.pt2", CPU, None).weight_bytes == 4 * (6 + 2)
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    file = save_exported(tied, tmp_path / "tied.pt2", (torch.ones(2, 4),), None)
    assert exported.load(file, CPU, None).weight_bytes == 4 * 16
