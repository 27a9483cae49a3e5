"""What every backend on torch gives: a module that is called with tensors, without gradients."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch

from pilothouse_runtime.core.tensors import Signature, Tensor
from pilothouse_runtime.engine.datatypes import datatype_of_torch
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.placement import placement_on
from pilothouse_runtime.engine.results import named_tensors


class TorchModel(LoadedModel):
    """A model whose inputs and outputs are tensors of torch.

    Args:
        weights: its parameters, buffers and constants; what shares memory is counted once.
    """

    misfit: ClassVar = re.compile(
        r"cannot be multiplied|size mismatch|must match|Sizes of tensors|invalid for input of size|scalar type"
        r"|[Ee]xpected .*(but|got|to have|to be|instead)|[Dd]imension|out of range|missing value for argument"
        r"|Unknown keyword argument|forward\(\) (expected|is missing)|not broadcastable|same (shape|number|dtype)",
        re.DOTALL,
    )

    def __init__(
        self,
        signature: Signature | None,
        device: torch.device,
        weights: Iterable[torch.Tensor],
        max_rows: int | None = None,
    ) -> None:
        super().__init__(signature, device.type, _bytes_of(weights), max_rows)
        self._placement = placement_on(device)
        self._names = tuple(spec.name for spec in signature.outputs) if signature else ()

    @abstractmethod
    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the model on tensors in the order of its inputs, and return what it returns."""

    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `LoadedModel`."""
        placement = self._placement
        try:
            with placement.running():
                names, leaves = named_tensors(self.call(placement.put(inputs)), self._names)
                datatypes = [
                    datatype_of_torch(name, leaf.dtype) for name, leaf in zip(names, leaves, strict=True)
                ]
                arrays = placement.get(leaves)
        except torch.OutOfMemoryError as error:
            raise MemoryError from error
        return [*map(Tensor, names, datatypes, arrays)]


def _bytes_of(weights: Iterable[torch.Tensor]) -> int:
    storages = [weight.untyped_storage() for weight in weights]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
