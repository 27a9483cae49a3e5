"""A graph from a model's file, exported anew: for a compiler that writes source, and so must see no text of the file.

Names of weights and nodes, and notes of where they came from, would get into that source as they are. Here each gets a
name that is made up, and texts that are arguments of operators are looked at.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx.node import map_aggregate

from pilothouse_runtime.engine.backends.program import attribute

_ATEN: Final = torch.ops.aten
_TEXT: Final = re.compile(r"[\w .,:>+-]*", re.ASCII)  # such as tanh, or bij,bjk->bik
_LEAST: Final = 2  # rows: torch tells 0 and 1 apart while it traces
# What they check has been checked when the file was exported, or is checked by the new export.
_CHECKS: Final = frozenset(
    {
        _ATEN._assert_scalar.default,
        _ATEN._assert_async.default,
        _ATEN._assert_async.msg,
        _ATEN._assert_tensor_metadata.default,
    }
)
# What traced TorchScript does with sizes: it makes tensors of them, and numbers again of what comes out.
_ARITHMETIC: Final[Mapping[Any, Any]] = {
    _ATEN.floor_divide.default: operator.floordiv,
    _ATEN.mul.Tensor: operator.mul,
    _ATEN.add.Tensor: operator.add,
    _ATEN.sub.Tensor: operator.sub,
}
_SIZES: Final[Mapping[Any, Any]] = {_ATEN.size.int: _ATEN.sym_size.int}  # the first gives no free sizes


class UncompilableError(ValueError):
    """The graph cannot be compiled; says why."""


def export_anew(
    module: fx.GraphModule,
    constants: Mapping[int, Any],
    inputs: Sequence[torch.Tensor],
    free: Sequence[Sequence[int]],
    *,
    checked: bool,
) -> ExportedProgram:
    """Return a program that takes a graph's tensors by position, and returns its leaves.

    Args:
        constants: by position, what placeholders that are no tensors must be; the program does not take these.
        inputs: examples, whose free sizes are 2 or more.
        free: of each input, the dimensions that may have any size.
        checked: the caller looks at the least sizes before each run; else there must be none.
    Raises:
        UncompilableError: the graph branches, holds texts of its own, or does not leave free what is to be free.
    """
    plain = _renamed(module, constants)
    shapes = [dict.fromkeys(axes, Dim.AUTO) for axes in free]
    program = torch.export.export(plain, tuple(inputs), dynamic_shapes=shapes)
    _check_sizes(program, free, checked=checked)
    return program


def _renamed(module: fx.GraphModule, constants: Mapping[int, Any]) -> fx.GraphModule:
    graph, root = fx.Graph(), nn.Module()
    new: dict[fx.Node, Any] = {}
    sizes: dict[fx.Node, Any] = {}  # tensors that stand for a size, as the number
    position = 0

    def moved(value: Any) -> Any:
        return new[value] if isinstance(value, fx.Node) else value

    for node in module.graph.nodes:
        if node.op == "placeholder":
            new[node] = (
                constants[position] if position in constants else graph.placeholder(f"input_{position}")
            )
            position += 1
        elif node.op == "get_attr":
            new[node] = _held(graph, root, attribute(module, str(node.target)), len(new))
        elif node.op == "output":
            graph.output(tuple(moved(leaf) for leaf in node.args[0]))
        elif node.op == "call_function":
            if node.target in _CHECKS:
                continue
            if (size := _size(module, graph, node, new, sizes)) is not None:
                new[node] = sizes[node] = size
                continue
            arguments = map_aggregate(node.args, moved), map_aggregate(node.kwargs, moved)
            map_aggregate(arguments, _check_text)
            new[node] = graph.call_function(_SIZES.get(node.target, node.target), *arguments)
        else:
            raise UncompilableError(f"its graph has a node of kind {node.op}")
    return fx.GraphModule(root, graph)


def _size(
    module: fx.GraphModule,
    graph: fx.Graph,
    node: fx.Node,
    new: Mapping[fx.Node, Any],
    sizes: Mapping[fx.Node, Any],
) -> Any:
    """Return the number that a node computes from sizes, or None where it does something else."""
    if node.target is torch.tensor:
        return new[node.args[0]] if isinstance(node.args[0], fx.Node) else node.args[0]
    if not any(given in sizes for given in node.all_input_nodes):
        return None
    if node.target is _ATEN.Int.Tensor:
        return new[node.all_input_nodes[0]]
    numbers = [_number(module, given, sizes) for given in node.args[:2]]
    if node.target not in _ARITHMETIC or None in numbers or len(node.args) + len(node.kwargs) > len(numbers):
        return None
    return graph.call_function(_ARITHMETIC[node.target], tuple(numbers))


def _number(module: fx.GraphModule, value: Any, sizes: Mapping[fx.Node, Any]) -> Any:
    """Return a size, or a whole number that a graph holds, or None."""
    if not isinstance(value, fx.Node):
        return value if type(value) is int else None
    if value.op == "get_attr":
        held = attribute(module, str(value.target))
        whole = isinstance(held, torch.Tensor) and held.dim() == 0 and held.dtype is torch.int64
        return int(held) if whole else None
    return sizes.get(value)


def _held(graph: fx.Graph, root: nn.Module, value: Any, number: int) -> fx.Node:
    if not isinstance(value, torch.Tensor):
        raise UncompilableError("its graph branches")
    name = f"weight_{number}"
    root.register_buffer(name, value.detach())
    return graph.get_attr(name)


def _check_text(value: Any) -> Any:
    if isinstance(value, str) and not _TEXT.fullmatch(value):
        raise UncompilableError(
            f"an operator is given the text {value[:40]!r}, which is in no model that torch exports"
        )
    return value


def _check_sizes(program: ExportedProgram, free: Sequence[Sequence[int]], *, checked: bool) -> None:
    found = {node.name: node.meta["val"] for node in program.graph.find_nodes(op="placeholder")}
    given = [
        spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT
    ]
    for number, (name, axes) in enumerate(zip(given, free, strict=True)):
        for axis in axes:
            size = found[name].shape[axis]
            # What was found to be one number only is still a SymInt, but of a number.
            if not isinstance(size, torch.SymInt) or size.node.expr.is_number:
                raise UncompilableError(
                    f"dimension {axis} of input {number} could only be {size} then, which may be any size in the file"
                )
    for size, known in program.range_constraints.items():
        if not checked and known.lower > _LEAST:
            raise UncompilableError(
                f"{size} must be at least {known.lower}, which native code would not look at"
            )
