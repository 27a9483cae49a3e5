"""The TorchScript backend: archives written by torch.jit.save."""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import fx

from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.signature import SignatureError, parse_signature, reconcile
from pilothouse_runtime.core.tensors import Signature, Tensor
from pilothouse_runtime.engine.backends.exported_check import FILE_OPERATORS
from pilothouse_runtime.engine.backends.program import plain_function
from pilothouse_runtime.engine.failures import first_cause, unloadable
from pilothouse_runtime.engine.fused import fuse
from pilothouse_runtime.engine.graph_model import AS_IT_IS, Function, Graph, GraphModel, Way
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.scripted import NotStraightError, as_graph

log = logging.getLogger(__name__)

SIGNATURE_FILE: Final = "signature.json"  # given to torch.jit.save as an extra file

# torch.jit.load runs no Python: pickles are read by torch's own reader, which makes tensors and TorchScript's
# types only. What is left are operators that read and write files by name.
_FILE_OPERATORS: Final = re.compile(rb"\b(?:torch|ops\.aten)\.(%s)\(" % "|".join(FILE_OPERATORS).encode())


class TorchScriptModel(GraphModel):
    """A scripted or traced module; inputs go by position to its forward.

    Until it is settled, it is run by TorchScript's plain interpreter: the other one watches the first run and compiles
    in the second, which is time spent on a way that is hardly ever taken.
    """

    format = Format.TORCHSCRIPT
    platform = "pytorch_torchscript"
    keeps = False

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        signature: Signature | None,
        device: torch.device,
        path: Path,
        options: Options = PLAIN,
    ) -> None:
        function = _uncompiled(module) if signature else module  # without a signature it is never settled
        weights = (*module.parameters(), *module.buffers())
        super().__init__(function, signature, device, weights, path, None, options)
        self._module = module

    def settle(self, inputs: Sequence[Tensor]) -> float | None:
        """See `LoadedModel`."""
        seconds = super().settle(inputs)
        if self.way == AS_IT_IS:
            self.function = self._module
        del self._module
        return seconds

    def optimized(self, wanted: Optimize) -> Function | None:
        """See `GraphModel`."""
        if wanted is Optimize.COMPILE:
            return self.compiled()
        graph = self.graph()
        return _named(fuse(graph.module, wanted), graph.names)

    def graph(self) -> Graph:
        """See `GraphModel`."""
        return self._graph_of(_frozen(self._module))

    def _graph_of(self, frozen: torch.jit.ScriptModule) -> Graph:
        module, names = as_graph(frozen, len(self.signature.inputs) if self.signature else 0)
        return Graph(module, {}, names, checked=False)

    def ways(self) -> Iterator[Way]:
        """Yield a frozen copy, whose weights are constants: as plain calls of operators, fused or not, or as such."""
        try:
            frozen = _frozen(self._module)
        except Exception as error:  # the model itself has run
            log.info("the model cannot be frozen: %s", first_cause(error))
            return
        try:
            graph, _, names, _ = self._graph_of(frozen)
        except NotStraightError as error:
            log.info("the model is left to TorchScript's interpreter: %s", error)
        else:
            if self.may_fuse:
                yield "fused", lambda: _named(fuse(graph), names)
            yield "operator by operator", lambda: _named(graph, names)
        yield "frozen", lambda: frozen.forward


def _uncompiled(module: torch.jit.ScriptModule) -> Function:
    def run(*inputs: torch.Tensor) -> Any:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined] # it is there
            return module(*inputs)

    return run


def _frozen(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Return a copy whose weights are constants: this also folds batch norms into convolutions."""
    if not hasattr(module, "training"):  # it was frozen when it was saved
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen: torch.jit.ScriptModule = torch.jit.freeze(module)
    return frozen


def _named(graph: fx.GraphModule | None, names: tuple[str, ...]) -> Function | None:
    """Return a graph as a function, that returns a dict where there are names."""
    if graph is None:
        return None
    function = plain_function(graph, {})
    return (lambda *inputs: dict(zip(names, function(*inputs), strict=True))) if names else function


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> TorchScriptModel:
    """Load an archive that `formats.detect` found to be TorchScript.

    Args:
        declared: the user's signature, if any; the archive's own is in its extra file signature.json.
    Raises:
        LoadError: ModelLoadFailed.
    """
    _refuse_file_operators(path)
    if (
        device.type == "cuda"
    ):  # where there is a fuser: it would compile anew for each of the first batch sizes
        torch.jit.set_fusion_strategy([("DYNAMIC", 4)])
    extra = {SIGNATURE_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of TorchScript as such: users bring what they have
            module = torch.jit.load(  # type: ignore[no-untyped-call] # torch's own
                str(path), map_location=device, _extra_files=extra
            )
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(
            f"{path.name}: torch cannot load this TorchScript archive: {first_cause(error)}"
        ) from error
    module.eval()
    try:
        found = parse_signature(extra[SIGNATURE_FILE]) if extra[SIGNATURE_FILE] else None
    except SignatureError as error:
        raise unloadable(f"{path.name}: the {SIGNATURE_FILE} in the archive: {error}") from None
    try:
        signature = reconcile(declared, found, names_made_up=False)
    except SignatureError as error:
        raise unloadable(f"{path.name}: {options.declared_by} contradict the file: {error}") from None
    if signature:
        signature = _in_order_of_forward(path, module, signature)
    return TorchScriptModel(module, signature, device, path, options)


def _refuse_file_operators(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if (
                "/code/" in name
                and name.endswith(".py")
                and (match := _FILE_OPERATORS.search(archive.read(name)))
            ):
                raise unloadable(
                    f"{path.name}: its code calls torch.{match[1].decode()}: a model may not use files"
                )


def _in_order_of_forward(path: Path, module: torch.jit.ScriptModule, signature: Signature) -> Signature:
    """Return the signature with its inputs in the order of forward's arguments, where the names are theirs."""
    arguments = module.forward.schema.arguments[1:]  # type: ignore[attr-defined] # of a ScriptMethod
    names = [spec.name for spec in signature.inputs]
    needed = sum(not argument.has_default_value() for argument in arguments)
    if not needed <= len(names) <= len(arguments):
        takes = ", ".join(argument.name for argument in arguments) or "nothing"
        raise unloadable(
            f"{path.name}: the signature has the inputs {', '.join(names)}, but the model's forward takes {takes}"
        )
    order = [argument.name for argument in arguments[: len(names)]]
    if set(order) != set(names):
        return signature
    by_name = {spec.name: spec for spec in signature.inputs}
    return Signature(tuple(by_name[name] for name in order), signature.outputs)
