"""What every backend gives: a loaded model that runs on arrays; and how arrays and torch's tensors meet."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import ANY, Datatype, Signature, Tensor, TensorSpec, datatype_of

Shapes = tuple[tuple[int, ...], ...]

_DTYPES: Final = {
    torch.bool: Datatype.BOOL,
    torch.uint8: Datatype.UINT8,
    torch.uint16: Datatype.UINT16,
    torch.uint32: Datatype.UINT32,
    torch.uint64: Datatype.UINT64,
    torch.int8: Datatype.INT8,
    torch.int16: Datatype.INT16,
    torch.int32: Datatype.INT32,
    torch.int64: Datatype.INT64,
    torch.float16: Datatype.FP16,
    torch.float32: Datatype.FP32,
    torch.float64: Datatype.FP64,
}
# Sizes tried, smallest first, for free dimensions other than the batch: an image of 1 x 1 may be too small.
_INNER_SIZES: Final = (1, 16, 64, 224)
BATCHES: Final = (1, 2)
# What torch says when tensors do not go together; anything else that a model raises is the model's own failure.
_MISFIT: Final = re.compile(
    r"cannot be multiplied|size mismatch|must match|Sizes of tensors|invalid for input of size|scalar type"
    r"|[Ee]xpected .*(but|got|to have|to be|instead)|[Dd]imension|out of range|missing value for argument"
    r"|Unknown keyword argument|forward\(\) (expected|is missing)|not broadcastable|same (shape|number|dtype)",
    re.DOTALL,
)


class UnservableError(Exception):
    """A model, or what it returns, cannot be carried by the protocol."""


class LoadedModel(ABC):
    """A model in memory, on its device, without gradients."""

    format: ClassVar[Format]
    platform: ClassVar[str]

    def __init__(self, signature: Signature | None, device: torch.device) -> None:
        self.signature = signature
        self.device = device

    @abstractmethod
    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the model on tensors in the order of its inputs, and return what it returns."""

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
        """Return the outputs for one request's inputs, which are in the model's order.

        Raises:
            RequestError: the tensors do not fit the model, or the model failed.
        """
        try:
            with torch.inference_mode():
                tensors = [self._to_torch(tensor) for tensor in inputs]
                return self._outputs(self.call(tensors))
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

    def _to_torch(self, tensor: Tensor) -> torch.Tensor:
        if tensor.datatype is Datatype.BYTES:
            raise invalid(f"input {tensor.name!r}: BYTES cannot be given to a model of format {self.format}")
        array = tensor.array if tensor.array.flags.writeable else tensor.array.copy()
        return torch.from_numpy(array).to(self.device)

    def _outputs(self, result: Any) -> list[Tensor]:
        """Name and convert what the model returned: by its keys, or the signature's names by position."""
        named = dict(name_leaves(result))
        if self.signature and self.signature.outputs:
            names = [spec.name for spec in self.signature.outputs]
            if len(names) == len(named) and are_positions(named):
                named = dict(zip(names, named.values(), strict=True))
            if named.keys() != set(names):
                raise UnservableError(f"it is {', '.join(named)}; the signature has {', '.join(names)}")
            named = {name: named[name] for name in names}
        return [self._to_tensor(name, value) for name, value in named.items()]

    def _to_tensor(self, name: str, value: Any) -> Tensor:
        if not isinstance(value, torch.Tensor):
            raise UnservableError(f"{name} is of type {type(value).__name__}; a model returns tensors")
        datatype = datatype_of_torch(name, value.dtype)
        return Tensor(name, datatype, value.detach().cpu().contiguous().numpy())


def name_leaves(result: Any) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a model's result with a name: keys of dicts joined by dots, else its position."""
    for index, (path, leaf) in enumerate(pytree.tree_flatten_with_path(result)[0]):
        named = any(not isinstance(key, pytree.SequenceKey) for key in path)
        keys = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
        yield ".".join(keys) if named else f"output_{index}", leaf


def are_positions(names: Iterable[str]) -> bool:
    """Say whether `name_leaves` found no names in a result, only positions."""
    return all(name == f"output_{index}" for index, name in enumerate(names))


def datatype_of_torch(name: str, dtype: torch.dtype) -> Datatype:
    """Return the protocol's datatype of a tensor. Raises UnservableError for what it cannot carry."""
    try:
        return _DTYPES[dtype]
    except KeyError:
        raise UnservableError(
            f"{name} is {str(dtype).removeprefix('torch.')}, which cannot be sent; convert it in the model"
        ) from None


def first_cause(error: BaseException) -> str:
    """Return the line of an error that says what is wrong: TorchScript puts it under a trace of its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception): ", line)]
    return (told or lines or [type(error).__name__])[-1 if told else 0]


def describe_output(tensor: Tensor) -> TensorSpec:
    """Return the description of one answer's tensor, its sizes fixed."""
    return TensorSpec(tensor.name, datatype_of(np.dtype(tensor.array.dtype)), tensor.array.shape)
