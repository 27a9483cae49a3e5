"""Makes a network by a function that the spec names, for files that hold weights only."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.settings import Optimize
from pilothouse_runtime.core.tensors import Signature, Tensor
from pilothouse_runtime.engine.failures import first_cause, not_optimizable, unloadable
from pilothouse_runtime.engine.likeness import copies
from pilothouse_runtime.engine.mapped import aligned, check_mapped
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.optimizing import answers_of_the_file, compared, unfit
from pilothouse_runtime.engine.torch_model import TorchModel

_LINES = 4  # of torch's list of what does not fit


class NetworkModel(TorchModel):
    """A module of an installed package with weights from a file; inputs go by name where forward has these names.

    Args:
        tensors: the file's, which are mapped, by the names that they have in the network.
        path: of the file.
    """

    def __init__(
        self,
        network: nn.Module,
        signature: Signature | None,
        device: torch.device,
        tensors: Mapping[str, torch.Tensor],
        path: Path,
        options: Options = PLAIN,
    ) -> None:
        super().__init__(signature, device, (*network.parameters(), *network.buffers()))
        self._network = network
        self._path = path
        self._tensors = tensors if options.optimize is Optimize.MMAP else None
        names = [spec.name for spec in signature.inputs] if signature else []
        self._keywords = names if set(names) <= set(inspect.signature(network.forward).parameters) else []

    def settle(self, inputs: Sequence[Tensor]) -> float | None:
        """See `LoadedModel`."""
        tensors, self._tensors = self._tensors, None
        if tensors is not None:
            wanted = Optimize.MMAP
            want = answers_of_the_file(wanted, lambda: self._answers(inputs))
            self._map(tensors)
            try:
                got = self._answers(inputs)
            except RequestError as error:
                raise unfit(wanted, error) from error
            compared(wanted, got, want)
        return None

    def _answers(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return copies(self.run(copies(inputs)))

    def _map(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Let the network's weights be the file's own pages: copies, of which it has had its own, are let go."""
        mine = self._network.state_dict()
        for name, tensor in tensors.items():
            if mine[name].dtype is not tensor.dtype:
                raise not_optimizable(
                    Optimize.MMAP,
                    f"{name} is {_type(tensor)} in the file and {_type(mine[name])} in the network, which so needs a"
                    " copy of its own: save the weights in the type of the network",
                )
        self._network.load_state_dict(aligned(tensors), assign=True)
        check_mapped(self._path, [*self._network.parameters(), *self._network.buffers()])

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run forward."""
        if self._keywords:
            return self._network(**dict(zip(self._keywords, inputs, strict=True)))
        return self._network(*inputs)


def network_of(
    path: Path, factory: str, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> nn.Module:
    """Return the network that `factory` makes, with these weights, on its device.

    Args:
        path: of the file with the weights, for messages.
        factory: module:function, in a package of the image; it is called without arguments.
    Raises:
        LoadError: ModelLoadFailed; there is no such function, it fails, or the weights are another network's.
    """
    if not factory:
        raise unloadable(
            f"{path.name} holds weights only; name what makes the network in model.factory, as in"
            " my_package.models:resnet, or export the model with torch.export.save (.pt2)"
        )
    network = _made(path, factory)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = " ".join(lines[1:_LINES] or lines)
        raise unloadable(f"{path.name} does not fit the network of {factory}: {told}") from None
    return network.to(device).eval()


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _made(path: Path, factory: str) -> nn.Module:
    module_name, _, function = factory.partition(":")
    if _lies_in(path.parent, module_name):
        raise unloadable(
            f"model.factory {factory} lies beside the model: code from there is run only with model.format python;"
            " install the package in the image; or where you serve it yourself, move the model to a folder of its own"
        )
    try:
        made: Any = importlib.import_module(module_name)
        for name in function.split("."):
            made = getattr(made, name)
        network = made()
    except (Exception, SystemExit) as error:
        raise unloadable(f"model.factory {factory}: {type(error).__name__}: {first_cause(error)}") from error
    if not isinstance(network, nn.Module):
        raise unloadable(
            f"model.factory {factory} gives a {type(network).__name__}, and not a module of torch"
        )
    return network


def _lies_in(folder: Path, module: str) -> bool:
    """Whether the package of a module would be imported from a folder. Nothing is imported to find out."""
    try:
        spec = importlib.util.find_spec(module.split(".", 1)[0])
    except (ImportError, ValueError):
        return False
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return any(place and Path(place).resolve().is_relative_to(folder.resolve()) for place in places)
