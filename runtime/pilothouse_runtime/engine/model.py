"""What every backend gives: a loaded model that runs on arrays."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import torch

from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import ANY, Signature, Tensor, TensorSpec, datatype_of
from pilothouse_runtime.engine.datatypes import UnservableError, datatype_of_torch
from pilothouse_runtime.engine.placement import placement_on
from pilothouse_runtime.engine.results import named_tensors

Shapes = tuple[tuple[int, ...], ...]

# Sizes tried, smallest first, for free dimensions other than the batch: an image of 1 x 1 may be too small.
_INNER_SIZES: Final = (1, 16, 64, 224)
# What torch says when tensors do not go together; anything else that a model raises is the model's own failure.
_MISFIT: Final = re.compile(
    r"cannot be multiplied|size mismatch|must match|Sizes of tensors|invalid for input of size|scalar type"
    r"|[Ee]xpected .*(but|got|to have|to be|instead)|[Dd]imension|out of range|missing value for argument"
    r"|Unknown keyword argument|forward\(\) (expected|is missing)|not broadcastable|same (shape|number|dtype)",
    re.DOTALL,
)


class LoadedModel(ABC):
    """A model in memory, on its device, without gradients.

    Attributes:
        max_rows: the most that the model's file allows as the size of a free first dimension, or None.
        weight_bytes: of its parameters, buffers and constants; what shares memory is counted once.
    """

    format: ClassVar[Format]
    platform: ClassVar[str]

    def __init__(
        self,
        signature: Signature | None,
        device: torch.device,
        weights: Iterable[torch.Tensor],
        max_rows: int | None = None,
    ) -> None:
        self.signature = signature
        self.device = device
        self.max_rows = max_rows
        self.weight_bytes = _bytes_of(weights)
        self._placement = placement_on(device)
        self._names = tuple(spec.name for spec in signature.outputs) if signature else ()

    @abstractmethod
    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the model on tensors in the order of its inputs, and return what it returns."""

    def settle(self, inputs: Sequence[Tensor]) -> None:  # noqa: B027 - most backends have nothing to choose
        """Choose the fastest way to run that gives the same answers to these inputs. Before the first request."""

    def warmup_shapes(self, batch: int) -> Iterator[Shapes]:
        """Yield shapes to try for all inputs with this batch size; one of them must work."""
        specs = self.signature.inputs if self.signature else ()
        inner_free = any(ANY in spec.shape[1:] for spec in specs)
        for inner in _INNER_SIZES if inner_free else _INNER_SIZES[:1]:
            yield tuple(
                tuple(
                    size if size != ANY else batch if axis == 0 else inner
                    for axis, size in enumerate(spec.shape)
                )
                for spec in specs
            )

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs for the inputs of one run, which are in the model's order.

        Outputs are row-major; on the CPU they may share memory with inputs, and with the model's own buffers.

        Raises:
            RequestError: the tensors do not fit the model, or the model failed.
        """
        placement = self._placement
        try:
            with placement.running():
                names, leaves = named_tensors(self.call(placement.put(inputs)), self._names)
                datatypes = [
                    datatype_of_torch(name, leaf.dtype) for name, leaf in zip(names, leaves, strict=True)
                ]
                arrays = placement.get(leaves)
            return [*map(Tensor, names, datatypes, arrays)]
        except UnservableError as error:
            raise RequestError(Code.INTERNAL, f"the model's answer cannot be sent: {error}") from error
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise RequestError(Code.INTERNAL, "the model ran out of memory on this request") from error
        except RequestError:
            raise
        except Exception as error:
            told = first_cause(error)
            if _MISFIT.search(told):
                raise invalid(f"the tensors do not fit the model: {told}") from error
            raise RequestError(Code.INTERNAL, f"the model failed: {told}") from error


def _bytes_of(weights: Iterable[torch.Tensor]) -> int:
    storages = [weight.untyped_storage() for weight in weights]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def first_cause(error: BaseException) -> str:
    """Return the line of an error that says what is wrong: TorchScript puts it under a trace of its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception): ", line)]
    return (told or lines or [type(error).__name__])[-1 if told else 0]


def describe_output(tensor: Tensor) -> TensorSpec:
    """Return the description of one answer's tensor, its sizes fixed."""
    return TensorSpec(tensor.name, datatype_of(np.dtype(tensor.array.dtype)), tensor.array.shape)
