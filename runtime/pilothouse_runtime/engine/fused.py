"""A model's graph as the CPU likes it best: weights laid out once, and what follows a product done in the same pass.

torch lays the weights of a convolution out anew in every run, and writes and reads all activations for each batch
norm, ReLU or sum. oneDNN's operators, which torch brings for its compiler and which need no compiler themselves, take
weights that are laid out already, and do these steps while they have the numbers at hand. Measured: docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pilothouse_runtime.core.settings import Optimize
from pilothouse_runtime.engine import int8

_ATEN: Final = torch.ops.aten
_ONEDNN: Final = torch.ops.mkldnn
_CONVOLUTIONS: Final = frozenset(
    {
        _ATEN.conv2d.default,
        _ATEN.convolution.default,
        _ATEN._convolution.default,
        _ATEN._convolution.deprecated,
    }
)
_SUMS: Final = frozenset({_ATEN.add.Tensor, _ATEN.add_.Tensor})
# What oneDNN calls them.
_ACTIVATIONS: Final[Mapping[Any, str]] = {
    _ATEN.relu.default: "relu",
    _ATEN.relu_.default: "relu",
    _ATEN.silu.default: "swish",
    _ATEN.silu_.default: "swish",
    _ATEN.sigmoid.default: "sigmoid",
    _ATEN.tanh.default: "tanh",
    _ATEN.gelu.default: "gelu",
}


class Dense(NamedTuple):
    """A linear layer or a convolution whose weights are known.

    Attributes:
        source: the node that gives its input.
        where: a convolution's padding, stride, dilation and groups; () for a linear layer.
    """

    source: fx.Node
    weight: torch.Tensor
    bias: torch.Tensor | None
    where: tuple[Any, ...] = ()


class _Tail(NamedTuple):
    """What is done with a product, and can be done in the same pass; `last` is the node that it ends with."""

    last: fx.Node
    other: fx.Node | None = None
    activation: str = "none"
    algorithm: str = ""


def fuse(module: fx.GraphModule, optimize: Optimize = Optimize.NONE) -> fx.GraphModule | None:
    """Return another module with a model's linear layers and convolutions fused; None where nothing can be.

    The graph given stays as it is, and so do its weights, which are copied.

    Args:
        optimize: what these layers compute with. For BF16, their inputs are converted, and their outputs converted
            back; for INT8 only linear layers are replaced, see `engine.int8`.
    """
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call] # torch's own
    if not has_onednn or any(node.target is _ATEN.as_strided.default for node in module.graph.nodes):
        return None
    writer = _Writer(copied(module), optimize)
    if not writer.write():
        return None
    return fx.GraphModule(
        writer.module, writer.module.graph
    )  # without the weights that nothing needs any more


def copied(module: fx.GraphModule) -> fx.GraphModule:
    """Return a module with a graph of its own and the same weights."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    return fx.GraphModule(module, graph)


class _Writer:
    def __init__(self, module: fx.GraphModule, optimize: Optimize) -> None:
        self.module = module
        self._graph = module.graph
        self._dtype = torch.bfloat16 if optimize is Optimize.BF16 else torch.float32
        self._optimize = optimize
        self._place = {node: place for place, node in enumerate(self._graph.nodes)}
        self._writes = [place for node, place in self._place.items() if _is_mutable(node)]
        self._added = 0

    def write(self) -> bool:
        """Replace what can be; say whether there was anything."""
        found = False
        for node in list(self._graph.nodes):
            if node.target is _ATEN.view.default:  # activations may lie in memory in another order
                node.target = _ATEN.reshape.default
            dense = dense_of(self.module, node)
            if dense is None or dense.weight.dtype is not torch.float32:
                continue
            if self._optimize is Optimize.INT8 and not dense.where:
                self._quantize(node, dense)
            else:
                self._replace(node, dense)
            found = found or self._optimize is not Optimize.INT8 or not dense.where
        if found:
            self._graph.eliminate_dead_code()
        return found

    def _quantize(self, node: fx.Node, dense: Dense) -> None:
        weight, scales = int8.quantized(dense.weight)
        with self._graph.inserting_before(node):
            held = (self._hold("weight", weight), self._hold("scales", scales))
            zeros = self._hold("zeros", torch.zeros(len(scales), dtype=torch.int64))
            bias = None if dense.bias is None else self._hold("bias", dense.bias)
            result = self._graph.call_function(int8.linear, (dense.source, *held, zeros, bias))
        node.replace_all_uses_with(result)
        self._place[result] = self._place.pop(node)
        self._graph.erase_node(node)

    def _replace(self, node: fx.Node, dense: Dense) -> None:
        weight, bias, end = dense.weight.detach(), dense.bias, node
        norm = self._next(node, end)
        if dense.where and norm is not None and (folded := self._folded(norm, weight, bias)):
            (weight, bias), end = folded, norm
        tail = self._tail(node, end, convolution=bool(dense.where))
        with self._graph.inserting_before(tail.last):
            source, other = self._cast(dense.source), tail.other and self._cast(tail.other)
            held = self._hold("weight", self._laid_out(weight.to(self._dtype), dense.where))
            side = None if bias is None else self._hold("bias", bias.detach().to(self._dtype))
            ending: tuple[Any, ...] = (tail.activation, [], tail.algorithm)
            if other is not None:
                operator: Any = _ONEDNN._convolution_pointwise.binary
                arguments: tuple[Any, ...] = (source, other, held, side, *dense.where, "add", 1.0, *ending)
            elif dense.where:
                operator = _ONEDNN._convolution_pointwise.default
                arguments = (source, held, side, *dense.where, *ending)
            else:
                operator = _ONEDNN._linear_pointwise.default
                arguments = (source, held, side, *ending)
            result = self._graph.call_function(operator, arguments)
            if self._dtype is not torch.float32:
                result = self._graph.call_function(_ATEN.to.dtype, (result, torch.float32))
        tail.last.replace_all_uses_with(result)
        self._place[result] = self._place[tail.last]
        for dead in (tail.last, end, node):  # operators that write are not dead for fx
            if not dead.users and dead in self._place:
                del self._place[dead]
                self._graph.erase_node(dead)

    def _tail(self, start: fx.Node, end: fx.Node, *, convolution: bool) -> _Tail:
        other: fx.Node | None = None
        following = self._next(start, end)
        if convolution and following is not None and following.target in _SUMS:
            given = arguments_of(following)
            both = (given["self"], given["other"])
            written = following.target is _ATEN.add_.Tensor and both[0] is not end
            rest = both[1] if both[0] is end else both[0]
            # A sum with something that does not come from the inputs may be of another shape.
            if (
                isinstance(rest, fx.Node)
                and rest.op == "call_function"
                and given["alpha"] == 1
                and not written
            ):
                other, end = rest, following
                following = self._next(start, end)
        name = _ACTIVATIONS.get(following.target) if following is not None else None
        if following is None or name is None or (convolution and name == "gelu"):
            return _Tail(end, other)
        algorithm = str(arguments_of(following).get("approximate", "")) if name == "gelu" else ""
        return _Tail(following, other, name, algorithm)

    def _next(self, start: fx.Node, end: fx.Node) -> fx.Node | None:
        """Return the only user of a node; None if nothing but it may come between it and the start."""
        if len(end.users) != 1:
            return None
        user = next(iter(end.users))
        first, last, chained = self._place[start], self._place.get(user), self._place[end]
        if last is None or any(first < place < last and place != chained for place in self._writes):
            return None  # something is written to in between: the start may not be moved there
        return user

    def _folded(
        self, node: fx.Node, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        if node.target is not _ATEN.batch_norm.default:
            return None
        given = arguments_of(node)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (constant(self.module, given[name]) for name in names)
        if given["training"] or mean is None or variance is None or mean.dtype is not torch.float32:
            return None
        if any(given[name] is not None and constant(self.module, given[name]) is None for name in names):
            return None
        with torch.no_grad():
            fused = fuse_conv_bn_weights(weight, bias, mean, variance, given["eps"], scale, shift)
        return fused[0].detach(), fused[1].detach()

    def _laid_out(self, weight: torch.Tensor, where: tuple[Any, ...]) -> torch.Tensor:
        with torch.no_grad():
            weight = weight.contiguous()
            laid: torch.Tensor = (
                _ONEDNN._reorder_convolution_weight(weight, *where)
                if where
                else _ONEDNN._reorder_linear_weight(weight)
            )
        return laid

    def _hold(self, kind: str, value: torch.Tensor) -> fx.Node:
        name = f"fused_{kind}_{self._added}"
        self._added += 1
        self.module.register_buffer(name, value)
        return self._graph.get_attr(name)

    def _cast(self, node: fx.Node) -> fx.Node:
        if self._dtype is torch.float32:
            return node
        if node.target is _ATEN.to.dtype and node.args[1] is torch.float32:
            before = node.args[0]
            if isinstance(before, fx.Node) and before.target in _FUSED:
                return before  # it comes from such a layer
        return self._graph.call_function(_ATEN.to.dtype, (node, self._dtype))


_FUSED: Final[frozenset[Callable[..., Any]]] = frozenset(
    {
        _ONEDNN._convolution_pointwise.default,
        _ONEDNN._convolution_pointwise.binary,
        _ONEDNN._linear_pointwise.default,
    }
)


def dense_of(module: fx.GraphModule, node: fx.Node) -> Dense | None:
    """Return what a node does if it is a linear layer or a two-dimensional convolution with constant weights."""
    if node.target is _ATEN.linear.default:
        return _dense(module, arguments_of(node), 2)
    if node.target not in _CONVOLUTIONS:
        return None
    given = arguments_of(node)
    if given.get("transposed") or any(given.get("output_padding", ())):
        return None
    where = tuple(given[name] for name in ("padding", "stride", "dilation"))
    if not all(isinstance(size, int) for sizes in where for size in sizes):
        return None
    whole = tuple([*sizes] * (2 // len(sizes)) if sizes else [1, 1] for sizes in where)
    return _dense(module, given, 4, (*whole, given["groups"]))


def _dense(
    module: fx.GraphModule, given: Mapping[str, Any], dimensions: int, where: tuple[Any, ...] = ()
) -> Dense | None:
    weight, bias = constant(module, given["weight"]), constant(module, given["bias"])
    source = given["input"]
    if weight is None or weight.dim() != dimensions or not isinstance(source, fx.Node):
        return None
    if bias is None and given["bias"] is not None:
        return None
    return Dense(source, weight, bias, where)


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Return an operator's arguments by name, with its defaults."""
    known = node.target._schema.arguments  # type: ignore[union-attr] # of an operator
    given = {argument.name: argument.default_value for argument in known if argument.has_default_value()}
    return given | dict(zip((argument.name for argument in known), node.args, strict=False)) | node.kwargs


def constant(module: fx.GraphModule, value: Any) -> torch.Tensor | None:
    """Return the tensor that a node stands for in every run; None if it is none."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    found: Any = module
    for name in str(value.target).split("."):
        found = getattr(found, name)
    return found.detach() if isinstance(found, torch.Tensor) else None


def _is_mutable(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
