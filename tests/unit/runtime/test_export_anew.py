"""Graphs from files, as a compiler that writes source gets them: without any text of the file's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

from pilothouse_runtime.core.tensors import Datatype, Signature, TensorSpec
from pilothouse_runtime.engine.backends import exported, torchscript
from pilothouse_runtime.engine.exporting.anew import UncompilableError, export_anew
from tests.support.tiny_models import Affine, save_mixer, save_torchscript

CPU = torch.device("cpu")
ATEN = torch.ops.aten
SIGNATURE = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),))


class Flat(Affine):
    """Looks at its number of rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).view(x.size(0), x.size(1) // 3 * 2)


def anew(graph: fx.Graph, *shapes: tuple[int, ...], root: Any = None, checked: bool = True) -> Any:
    free = [[0]] * len(shapes)
    inputs = [torch.zeros(shape) for shape in shapes]
    return export_anew(fx.GraphModule(root or nn.Module(), graph), {}, inputs, free, checked=checked)


def test_the_program_answers_as_the_file_for_any_rows(tmp_path: Path) -> None:
    graph = exported.load(save_mixer(tmp_path / "mixer.pt2"), CPU, None).graph()
    inputs = [torch.ones(2, 2), torch.ones(2, dtype=torch.int64)]
    program = export_anew(graph.module, graph.constants, inputs, [[0], [0]], checked=graph.checked)
    for rows in (2, 5):
        scaled, raised = program.module()(torch.full((rows, 2), 2.0), torch.full((rows,), 3))
        assert (scaled.tolist(), raised.tolist()) == ([[6.0, 6.0]] * rows, [13] * rows)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("traced", [True, False])
def test_torchscript_that_looks_at_its_sizes(tmp_path: Path, traced: bool) -> None:
    file = tmp_path / "flat.pt"
    if traced:
        torch.jit.save(torch.jit.trace(Flat(), torch.ones(2, 3)), str(file))
    else:
        save_torchscript(Flat(), file)
    graph = torchscript.load(file, CPU, SIGNATURE).graph()
    program = export_anew(graph.module, {}, [torch.ones(2, 3)], [[0]], checked=False)
    (answer,) = program.module()(torch.ones(7, 3))
    assert answer.tolist() == [[6.5, -0.5]] * 7


def test_names_of_the_file_are_not_taken_over() -> None:
    root = nn.Module()
    root.register_buffer("weight_of_the_file", torch.ones(3))
    graph = fx.Graph()
    x = graph.placeholder("an_input_of_the_file")
    weight = graph.get_attr("weight_of_the_file")
    total = graph.create_node("call_function", ATEN.add.Tensor, (x, weight), name="a_sum_of_the_file")
    graph.output((total,))
    assert "of_the_file" not in str(anew(graph, (2, 3), root=root))


def test_texts_that_no_operator_takes() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output((graph.call_function(ATEN.gelu.default, (x,), {"approximate": '"; system("id"); "'}),))
    with pytest.raises(UncompilableError, match="an operator is given the text"):
        anew(graph, (2, 3))


def test_what_is_checked_already_is_left_out() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    size = graph.call_function(ATEN.sym_size.int, (x, 0))
    graph.call_function(ATEN._assert_scalar.default, (size, 'it\'s "free" text'))
    graph.output((graph.call_function(ATEN.relu.default, (x,)),))
    assert "free" not in str(anew(graph, (2, 3)))


def test_graphs_that_are_refused() -> None:
    fixed = fx.Graph()
    x = fixed.placeholder("x")
    fixed.output((fixed.call_function(ATEN.view.default, (x, [2, 3])),))
    with pytest.raises(UncompilableError, match="dimension 0 of input 0 could only be 2 then"):
        anew(fixed, (2, 3))
    branching, root = fx.Graph(), nn.Module()
    root.branch = fx.GraphModule(nn.Module(), fx.Graph())
    x = branching.placeholder("x")
    branching.get_attr("branch")
    branching.output((x,))
    with pytest.raises(UncompilableError, match="its graph branches"):
        anew(branching, (2, 3), root=root)


def test_a_least_size_that_nobody_would_look_at() -> None:
    class Latest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[-4:].contiguous().sum(1)

    rows = torch.export.Dim("rows", min=5)
    program = torch.export.export(Latest(), (torch.ones(8, 3),), dynamic_shapes=({0: rows},))
    graph = program.module(check_guards=False)
    given = [torch.ones(8, 3)]
    with pytest.raises(UncompilableError, match=r"must be at least .*, which native code would not look at"):
        export_anew(graph, {}, given, [[0]], checked=False)
    assert export_anew(graph, {}, given, [[0]], checked=True)
