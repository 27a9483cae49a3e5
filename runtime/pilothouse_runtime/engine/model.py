"""What every backend gives: a loaded model that runs on arrays. Nothing here knows torch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.tensors import ANY, Signature, Tensor, TensorSpec, datatype_of
from pilothouse_runtime.engine.failures import UnservableError, first_cause

Shapes = tuple[tuple[int, ...], ...]

# Sizes tried, smallest first, for free dimensions other than the batch: an image of 1 x 1 may be too small.
_INNER_SIZES: Final = (1, 16, 64, 224)


SPEC_FIELDS: Final = "model.inputs and model.outputs"


@dataclass(frozen=True)
class Options:
    """What the spec says of a model beside its format and signature.

    Attributes:
        factory: module:function that makes the network for a file that holds weights only, or "".
        tokenizer: the folder of the tokenizer where it is not the model's.
        optimize: how it is to be run otherwise than its file says.
        gradients: whether it is to be explained by them: fused layers have none.
        scratch: a folder of this container's own, where what is compiled is kept for its next start; without one,
            nothing is compiled.
        declared_by: what says the signature that the model is held to, for messages.
    """

    factory: str = ""
    tokenizer: Path | None = None
    optimize: Optimize = Optimize.NONE
    gradients: bool = False
    scratch: Path | None = None
    declared_by: str = SPEC_FIELDS


PLAIN: Final = Options()


class LoadedModel(ABC):
    """A model in memory, on its device.

    Attributes:
        device: where it runs, "cpu" or "cuda".
        weight_bytes: of its parameters, buffers and constants, as far as they are known.
        max_rows: the most that the model's file allows as the size of a free first dimension, or None.
        misfit: what an error of its library says when the inputs do not go together; anything else is the model's own
            failure.
        reentrant: whether it may be run by several threads at the same time.
    """

    format: ClassVar[Format]
    platform: ClassVar[str]
    misfit: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    reentrant: ClassVar[bool] = True

    def __init__(
        self,
        signature: Signature | None,
        device: str = "cpu",
        weight_bytes: int = 0,
        max_rows: int | None = None,
    ) -> None:
        self.signature = signature
        self.device = device
        self.weight_bytes = weight_bytes
        self.max_rows = max_rows

    @abstractmethod
    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the model, as `run` says; what it raises is put into words there.

        Raises:
            UnservableError: its answer cannot be carried by the protocol.
            MemoryError: there is too little, here or on the device.
        """

    def settle(self, inputs: Sequence[Tensor]) -> float | None:
        """Choose the fastest way to run that gives the same answers to these inputs. Before the first request.

        Returns:
            The seconds of a run, where that is known now.
        Raises:
            LoadError: OptimizationFailed: the way that was asked for is not to be had.
        """
        return None

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
        try:
            return self.compute(inputs)
        except UnservableError as error:
            raise RequestError(Code.INTERNAL, f"the model's answer cannot be sent: {error}") from error
        except MemoryError as error:
            raise RequestError(Code.INTERNAL, "the model ran out of memory on this request") from error
        except RequestError:
            raise
        except Exception as error:
            told = first_cause(error)
            if self.misfit.search(told):
                raise invalid(f"the tensors do not fit the model: {told}") from error
            raise RequestError(Code.INTERNAL, f"the model failed: {told}") from error


def describe_output(tensor: Tensor) -> TensorSpec:
    """Return the description of one answer's tensor, its sizes fixed."""
    return TensorSpec(tensor.name, datatype_of(np.dtype(tensor.array.dtype)), tensor.array.shape)
