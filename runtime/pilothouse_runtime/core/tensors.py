"""Tensors and their description, in the words of the Open Inference Protocol v2."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

Array = NDArray[Any]
ANY = -1  # a dimension that may have any size


class Datatype(StrEnum):
    """The protocol's datatypes ("Tensor Data Types")."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    __hash__ = str.__hash__  # Enum's is written in Python, and asked for many times in every request

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the elements, little-endian as on the wire; BYTES are objects of type bytes.

        numpy has no BF16: it is the type of `ml_dtypes`, as in Triton's client, whose kind is "V".
        """
        return _DTYPES[self]


_DTYPES: Final[dict[Datatype, np.dtype[Any]]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype(bfloat16),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype(np.object_),
}
_DATATYPES: Final = {dtype: datatype for datatype, dtype in _DTYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """Return the datatype of a numpy dtype. Raises KeyError for what the protocol cannot carry."""
    return _DATATYPES[dtype]


# Several are made for each request: freezing a dataclass, or comparing arrays with ==, would be paid for nothing.
@dataclass(slots=True, eq=False)
class Tensor:
    """A named array; its shape is the array's."""

    name: str
    datatype: Datatype
    array: Array


@dataclass(frozen=True)
class TensorSpec:
    """What a model says of one input or output: `shape` has ANY for each free dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether an array of this concrete shape fits."""
        own = self.shape
        if len(shape) != len(own):
            return False
        if shape[1:] == own[1:]:  # only rows are free, as in most models: no look at each size
            return not own or own[0] in (ANY, shape[0])
        for want, got in zip(own, shape, strict=True):  # noqa: SIM110 - all() takes three times as long
            if want not in (ANY, got):
                return False
        return True

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """A model's inputs and outputs, in the order in which the model takes and gives them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
