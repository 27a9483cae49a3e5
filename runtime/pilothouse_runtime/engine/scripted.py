"""TorchScript as a graph of torch.fx, where it is a straight line of torch's own operators.

That is what tracing gives, and scripting too once constants are folded. What branches, loops or calls is left to
TorchScript's own interpreter.
"""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch import fx

_LISTS: Final = {"prim::ListConstruct": list, "prim::TupleConstruct": tuple}
# Operators on lists of anything, which torch lets nobody call.
_ON_LISTS: Final = {"aten::__getitem__.t": operator.getitem, "aten::len.t": len}
_UNPACKED: Final = frozenset({"prim::ListUnpack", "prim::TupleUnpack"})


class NotStraightError(ValueError):
    """The graph has something that is no plain operator on tensors and numbers."""


def as_graph(module: torch.jit.ScriptModule, inputs: int) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """Return the graph of a frozen module's forward, whose output is flat, and the names of outputs in a dict, or ().

    Args:
        inputs: how many tensors it will be given.
    Raises:
        NotStraightError: says which kind of node stands in the way.
    """
    script: Any = module.graph.copy()
    if len(list(script.inputs())) != inputs + 1:
        raise NotStraightError("some of its arguments are left at their defaults")
    torch._C._jit_pass_inline(script)
    return _Reader().read(script)


class _Reader:
    def __init__(self) -> None:
        self._graph = fx.Graph()
        self._root = torch.nn.Module()
        self._values: dict[str, Any] = {}

    def read(self, script: Any) -> tuple[fx.GraphModule, tuple[str, ...]]:
        _module, *inputs = script.inputs()
        for number, value in enumerate(inputs):
            self._values[value.debugName()] = self._graph.placeholder(f"input_{number}")
        for node in script.nodes():
            self._take(node)
        (returned,) = script.outputs()
        result: Any = self._values[returned.debugName()]
        names: tuple[str, ...] = ()
        if isinstance(result, dict):
            names, result = tuple(result), tuple(result.values())
        leaves = tuple(result) if isinstance(result, tuple | list) else (result,)
        if not all(isinstance(leaf, fx.Node) for leaf in leaves) or not all(
            isinstance(n, str) for n in names
        ):
            raise NotStraightError("its output is nested")
        self._graph.output(leaves)
        return fx.GraphModule(self._root, self._graph), names

    def _take(self, node: Any) -> None:
        kind, outputs = node.kind(), list(node.outputs())
        given = [self._values.get(value.debugName()) for value in node.inputs()]
        if kind == "prim::Constant":
            result: Any = self._constant(outputs[0].toIValue())
        elif kind in _LISTS:
            result = _LISTS[kind](given)
        elif kind == "prim::DictConstruct":
            result = dict(zip(given[::2], given[1::2], strict=True))
        elif kind in _UNPACKED:
            self._unpack(given[0], outputs)
            return
        elif kind == "prim::NumToTensor":
            result = self._graph.call_function(torch.tensor, (given[0],))
        elif kind.startswith("aten::") and len(outputs) == 1 and not list(node.blocks()):
            result = self._call(_operator(node), given)
        else:
            raise NotStraightError(f"it has a node of kind {kind}")
        self._values[outputs[0].debugName()] = result

    def _call(self, found: Any, given: list[Any]) -> fx.Node:
        """Write a call; TorchScript has all arguments in a row, operators take some by name only."""
        if not isinstance(found, torch._ops.OpOverload):
            return self._graph.call_function(found, tuple(given))
        names = [argument.name for argument in found._schema.arguments if argument.kwarg_only]
        by_place = len(given) - len(names)
        return self._graph.call_function(
            found, tuple(given[:by_place]), dict(zip(names, given[by_place:], strict=True))
        )

    def _constant(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        name = f"constant_{len(self._values)}"
        self._root.register_buffer(name, value.detach())
        return self._graph.get_attr(name)

    def _unpack(self, packed: Any, outputs: list[Any]) -> None:
        for index, value in enumerate(outputs):
            part = (
                self._graph.call_function(operator.getitem, (packed, index))
                if isinstance(packed, fx.Node)
                else packed[index]
            )
            self._values[value.debugName()] = part


def _operator(node: Any) -> Any:
    """Return the operator of a node, by its schema: `aten::add.Tensor(Tensor self, ...`."""
    schema = node.schema()
    if schema == "(no schema)":
        raise NotStraightError(f"it has a node of kind {node.kind()}")
    whole = schema.partition("(")[0]
    if whole in _ON_LISTS:
        return _ON_LISTS[whole]
    name, _, overload = whole.removeprefix("aten::").partition(".")
    try:
        return getattr(getattr(torch.ops.aten, name), overload or "default")
    except AttributeError as error:
        raise NotStraightError(f"it has a node of kind {node.kind()}") from error
