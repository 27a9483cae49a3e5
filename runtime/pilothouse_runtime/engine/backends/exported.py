"""The torch.export backend: .pt2 archives, read without torch.export.load, which unpickles parts of them.

Layout: torch/export/pt2_archive/constants.py. Sample inputs are never read, weights and constants only as raw
tensors, and the program only after `exported_check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import fx
from torch._export.serde import schema
from torch._export.serde.serialize import ExportedProgramDeserializer, _dict_to_dataclass
from torch._export.utils import _check_input_constraints_for_graph
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive import PT2ArchiveReader
from torch.export.pt2_archive._package import _load_constants, _load_state_dict
from torch.utils import _pytree as pytree

from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.signature import SignatureError, reconcile
from pilothouse_runtime.core.tensors import ANY, Signature, TensorSpec
from pilothouse_runtime.engine.backends.exported_check import (
    UnsafeProgramError,
    checked_payloads,
    checked_program,
)
from pilothouse_runtime.engine.backends.program import plain_function
from pilothouse_runtime.engine.datatypes import datatype_of_torch
from pilothouse_runtime.engine.failures import UnservableError, first_cause, unloadable
from pilothouse_runtime.engine.fused import fuse
from pilothouse_runtime.engine.graph_model import Function, Graph, GraphModel, Way
from pilothouse_runtime.engine.mapped import MappedRecords, check_mapped
from pilothouse_runtime.engine.model import PLAIN, Options, Shapes
from pilothouse_runtime.engine.results import are_positions, name_leaves

_MODEL: Final = "model"  # the name under which torch.export.save stores its one program
_PROGRAM: Final = f"models/{_MODEL}.json"
_TABLES: Final = (
    f"data/weights/{_MODEL}_weights_config.json",
    f"data/constants/{_MODEL}_constants_config.json",
)
_PICKLES: Final = (f"data/weights/{_MODEL}.pt", f"data/constants/{_MODEL}.pt")  # of early archives
_KEYWORDS: Final[Any] = pytree.SequenceKey(1)  # where torch's messages find names of arguments
_NAMELESS: Final[Any] = pytree.MappingKey("a constant argument")
_REMEMBERED: Final = 4096  # sets of shapes
_UNBOUNDED: Final = 1 << 31  # rows


class ExportedModel(GraphModel):
    """An exported program; its inputs are the tensors among the leaves of its arguments."""

    format = Format.EXPORTED
    platform = "pytorch_exported"

    def __init__(
        self,
        program: ExportedProgram,
        signature: Signature,
        device: torch.device,
        path: Path,
        options: Options = PLAIN,
    ) -> None:
        arguments = _arguments(program)
        self._sizes = [_sizes(program, name) for name, _ in arguments if name]
        self._ranges = program.range_constraints
        weights = (*program.state_dict.values(), *program.constants.values())
        # Guards are Python source from the file. Sizes are checked against their ranges, as torch's own hook does it.
        module = program.module(check_guards=False)
        self._constants = {index: value for index, (name, value) in enumerate(arguments) if not name}
        function = plain_function(module, self._constants)
        most = _max_rows(self._sizes, self._ranges)
        super().__init__(function, signature, device, weights, path, most, options)
        self._module: fx.GraphModule | None = module
        # Copies, as a node leads to its graph, and that to all weights.
        self._placeholders = [
            fx.Graph().node_copy(node) for node in module.graph.find_nodes(op="placeholder")
        ]
        self._arguments = arguments
        self._fitting: set[tuple[torch.Size, ...]] = set()

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the program on its tensors, and return those that it gives, flat."""
        shapes = tuple([tensor.shape for tensor in inputs])
        if shapes not in self._fitting:
            self._check(inputs, shapes)
        return self.function(*inputs)

    def optimized(self, wanted: Optimize) -> Function | None:
        """See `GraphModel`."""
        module = self.graph().module
        if wanted is Optimize.COMPILE:
            return self.compiled()
        if wanted is Optimize.MMAP:
            mapped = _read(self._path, mapped=True).module(check_guards=False)
            check_mapped(self._path, [*mapped.parameters(), *mapped.buffers()])
            return plain_function(mapped, self._constants)
        fused = fuse(module, wanted)
        return plain_function(fused, self._constants) if fused else None

    def graph(self) -> Graph:
        """See `GraphModel`. Once only."""
        module, self._module = self._module, None
        assert module is not None  # noqa: S101 - a model is settled once
        return Graph(module, self._constants, (), checked=True)

    def ways(self) -> Iterator[Way]:
        """Yield the program with its linear layers and convolutions fused."""
        module, self._module = self._module, None
        if module is not None and self.may_fuse:
            yield "fused", lambda: plain_function(fused, self._constants) if (fused := fuse(module)) else None

    def _check(self, inputs: Sequence[torch.Tensor], shapes: tuple[torch.Size, ...]) -> None:
        """Check sizes and their relations, which takes longer than a small model: what fits is remembered.

        Raises:
            RuntimeError: torch's, that says which size of which input should have been what.
        """
        given = iter(inputs)
        leaves = [
            ((_KEYWORDS, pytree.MappingKey(name)), next(given)) if name else ((_KEYWORDS, _NAMELESS), value)
            for name, value in self._arguments
        ]
        _check_input_constraints_for_graph(self._placeholders, leaves, self._ranges)
        if len(self._fitting) >= _REMEMBERED:
            self._fitting.clear()
        self._fitting.add(shapes)

    def warmup_shapes(self, batch: int) -> Iterator[Shapes]:
        """Yield the one set of shapes that gives each free size its smallest value, or the next ones."""
        free = [size for sizes in self._sizes for size in sizes if not isinstance(size, int)]
        symbols = {symbol for size in free for symbol in size.free_symbols}
        values = {symbol: self._size(symbol, batch) for symbol in symbols}
        yield tuple(
            tuple(size if isinstance(size, int) else int(size.subs(values)) for size in sizes)
            for sizes in self._sizes
        )

    def _size(self, symbol: Any, batch: int) -> int:
        known = self._ranges.get(symbol)
        if known is None:
            return batch
        # torch writes 2 for "any size": 0 and 1 are told apart while tracing only.
        size = batch + (int(known.lower) - 1 if known.lower > 2 else 0)
        return size if size <= known.upper else int(known.upper)


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> ExportedModel:
    """Load an archive that `formats.detect` found to be an exported program.

    Args:
        declared: the user's signature, if any; the program has its own.
    Raises:
        LoadError: ModelLoadFailed.
    """
    try:
        program = _read(path)
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        found, made_up = _signature(program)
        signature = reconcile(declared, found, names_made_up=made_up)
        assert signature is not None  # noqa: S101 - one of the two is
        return ExportedModel(program, signature, device, path, options)
    except SignatureError as error:
        raise unloadable(f"{path.name}: {options.declared_by} contradict the file: {error}") from None
    except UnsafeProgramError as error:
        raise unloadable(f"{path.name} is refused: {error}") from error
    except UnservableError as error:
        raise unloadable(f"{path.name}: {error}") from error
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(
            f"{path.name}: torch cannot load this exported program: {first_cause(error)}"
        ) from error


def _read(path: Path, *, mapped: bool = False) -> ExportedProgram:
    """Read a program; with `mapped`, its weights stay pages of the file where they can."""
    with PT2ArchiveReader(str(path)) as reader:
        if mapped:
            reader.archive_file = MappedRecords(reader.archive_file, path)  # type: ignore[assignment] # as much of it
        names = reader.get_file_names()
        if any(pickled in names for pickled in _PICKLES):
            raise UnsafeProgramError(
                "its tensors are stored as a pickle, which is never loaded; export it again"
            )
        for table in _TABLES:
            checked_payloads(reader.read_bytes(table))
        document = checked_program(reader.read_bytes(_PROGRAM))
        weights = _load_state_dict(reader, _MODEL)
        constants = _load_constants(reader, _MODEL)
    # Dictionaries are taken as they are; bytes, such as the sample inputs, would be unpickled.
    return ExportedProgramDeserializer().deserialize(
        _dict_to_dataclass(schema.ExportedProgram, document),  # type: ignore[no-untyped-call] # torch's own
        weights,
        constants,
        None,
    )


def _arguments(program: ExportedProgram) -> list[tuple[str, Any]]:
    """Return for each leaf of the arguments the name of its tensor, or "" and the constant it must be."""
    leaves: list[tuple[str, Any]] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT:
            continue
        if isinstance(spec.arg, TensorArgument):
            leaves.append((spec.arg.name, None))
        elif isinstance(spec.arg, ConstantArgument):
            leaves.append(("", spec.arg.value))
        else:
            raise UnservableError(
                f"its argument {spec.arg.name} is a number; a served model takes tensors only"
            )
    return leaves


def _sizes(program: ExportedProgram, name: str) -> list[Any]:
    """Return a tensor's dimensions: numbers, and sympy's expressions of free sizes."""
    value = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    return [size.node.expr if isinstance(size, torch.SymInt) else int(size) for size in value.shape]


def _max_rows(sizes: list[list[Any]], ranges: Mapping[Any, Any]) -> int | None:
    """Return the upper bound of the inputs' free first dimensions, or None."""
    known = [ranges[first].upper for first, *_ in filter(None, sizes) if first in ranges]
    return min((int(upper) for upper in known if upper < _UNBOUNDED), default=None)


def _signature(program: ExportedProgram) -> tuple[Signature, bool]:
    """Return the program's signature, and whether its output names are only positions."""
    inputs = [_spec(program, name, name) for name, _ in _arguments(program) if name]
    outputs = [
        spec.arg for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT
    ]
    out_spec = program.call_spec.out_spec
    named = list(name_leaves(pytree.tree_unflatten(outputs, out_spec)))
    for name, argument in named:
        if not isinstance(argument, TensorArgument):
            raise UnservableError(f"{name} is not a tensor; a served model returns tensors only")
    specs = [_spec(program, name, argument.name) for name, argument in named]
    return Signature(tuple(inputs), tuple(specs)), are_positions(name for name, _ in named)


def _spec(program: ExportedProgram, shown: str, name: str) -> TensorSpec:
    value = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    shape = tuple(ANY if isinstance(size, torch.SymInt) else int(size) for size in value.shape)
    return TensorSpec(shown, datatype_of_torch(shown, value.dtype), shape)
