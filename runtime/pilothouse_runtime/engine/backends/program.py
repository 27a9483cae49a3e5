"""An exported program's graph as one plain Python function.

`ExportedProgram.module()` walks trees of arguments, runs hooks and looks every weight up again in each call, which
takes longer than a small model. Here weights, operators and constants are bound once, and nothing is left but calls of
operators. Of the program's file, nothing gets into the source but numbers and the names of operators' arguments: all
other names are made here.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx


def plain_function(module: fx.GraphModule, constants: Mapping[int, Any]) -> Callable[..., Any]:
    """Return a function of a module's tensors, in the order of its placeholders, that returns a tuple of its leaves.

    Args:
        module: what `ExportedProgram.module(check_guards=False)` returned.
        constants: by position, what placeholders that are no tensors must be; the function does not take these.
    Raises:
        ValueError: the graph has a kind of node, or a name of an argument, that `torch.export` does not write.
    """
    writer = _Writer(module)
    last_uses = _last_uses(module.graph)
    position = 0
    for node in module.graph.nodes:
        if node.op == "placeholder":
            if position in constants:
                writer.bind(node, constants[position])
            else:
                writer.take(node)
            position += 1
        else:
            writer.write(node, last_uses.get(node, ()))
    return writer.function()


class _Writer:
    """Writes the source line by line, and keeps what its names stand for."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._names: dict[fx.Node, str] = {}
        self._bound: dict[str, Any] = {}
        self._arguments: list[str] = []
        self._lines: list[str] = []

    def bind(self, node: fx.Node, value: Any) -> None:
        """Let a node be a value that is known already."""
        self._names[node] = self._constant(value)

    def take(self, node: fx.Node) -> None:
        """Let a node be an argument of the function."""
        self._arguments.append(self._named(node))

    def write(self, node: fx.Node, dead: Sequence[fx.Node]) -> None:
        """Write what a node does; `dead` are the nodes whose values nobody needs after it."""
        if node.op == "get_attr":
            self.bind(node, attribute(self._module, str(node.target)))
            return
        if node.op == "output":
            # A leaf that is returned twice is one node; a single one makes a tuple too.
            self._lines.append(f"return {self._expression(tuple(node.args[0]))}")  # type: ignore[arg-type] # a sequence
            return
        if node.op != "call_function":
            raise ValueError(f"a node of kind {node.op}")
        target = self._constant(_callable(node.target))
        arguments = [self._expression(value) for value in node.args]
        arguments += [self._keyword(name, value) for name, value in node.kwargs.items()]
        self._lines.append(f"{self._named(node)} = {target}({', '.join(arguments)})")
        freed = [self._names[used] for used in dead if self._names[used][0] == "v"]
        if freed:  # as early as in fx's own code: memory for activations is needed again
            self._lines.append(f"{' = '.join(freed)} = None")

    def function(self) -> Callable[..., Any]:
        """Return the function whose lines were written."""
        body = "\n    ".join(self._lines)
        source = f"def run({', '.join(self._arguments)}):\n    {body}\n"
        scope = dict(self._bound)
        exec(compile(source, "<exported program>", "exec"), scope)  # noqa: S102 - of our own names only
        function: Callable[..., Any] = scope["run"]
        return function

    def _named(self, node: fx.Node) -> str:
        return self._names.setdefault(node, f"v{len(self._names)}")

    def _constant(self, value: Any) -> str:
        name = f"c{len(self._bound)}"
        self._bound[name] = value
        return name

    def _keyword(self, name: str, value: Any) -> str:
        if not name.isidentifier() or keyword.iskeyword(name):  # operators have no such arguments
            raise ValueError(f"an operator's argument is called {name[:80]!r}")
        return f"{name}={self._expression(value)}"

    def _expression(self, value: Any) -> str:
        """Return source for an argument: a node, something with nodes in it, or a constant."""
        if isinstance(value, fx.Node):
            return self._names[value]
        if isinstance(value, tuple):
            return f"({''.join(f'{self._expression(item)}, ' for item in value)})"
        if isinstance(value, list):
            return f"[{', '.join(self._expression(item) for item in value)}]"
        if isinstance(value, dict):
            pairs = (f"{self._constant(key)}: {self._expression(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        if value is None or isinstance(value, bool | int):
            return repr(value)
        return self._constant(value)


def _callable(target: Any) -> Any:
    """Return what calling an operator comes to: `OpOverload.__call__` only passes its arguments on."""
    return target._op if isinstance(target, torch._ops.OpOverload) else target


def attribute(module: torch.nn.Module, path: str) -> Any:
    """Return a weight, a constant, or the graph of a branch."""
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return for each node the nodes that it is the last to use; what nobody uses is its own last use."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        last[node] = node
        for used in node.all_input_nodes:
            last[used] = node
    uses: dict[fx.Node, list[fx.Node]] = {}
    for used, user in last.items():
        uses.setdefault(user, []).append(used)
    return uses
