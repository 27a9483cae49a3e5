"""The protocol's datatypes and torch's, and how the memory of an array and of a tensor is one and the same."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.tensors import Array, Datatype, Tensor
from pilothouse_runtime.engine.failures import UnservableError

_DATATYPES: Final = {
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
    torch.bfloat16: Datatype.BF16,
    torch.float32: Datatype.FP32,
    torch.float64: Datatype.FP64,
}
TORCH_DTYPES: Final = {datatype: dtype for dtype, datatype in _DATATYPES.items()}


def datatype_of_torch(name: str, dtype: torch.dtype) -> Datatype:
    """Return the protocol's datatype of a tensor. Raises UnservableError for what it cannot carry."""
    try:
        return _DATATYPES[dtype]
    except KeyError:
        raise UnservableError(
            f"{name} is {str(dtype).removeprefix('torch.')}, which cannot be sent; convert it in the model"
        ) from None


def as_torch(tensor: Tensor) -> torch.Tensor:
    """Return the tensor in an array's memory; of an array that must not be written to, in a copy.

    Raises:
        RequestError: it is of BYTES, which torch has not.
    """
    datatype, array = tensor.datatype, tensor.array
    if datatype is Datatype.BYTES:
        raise invalid(f"input {tensor.name!r}: BYTES cannot be given to a model of PyTorch")
    if not array.flags.writeable:
        array = array.copy()
    if datatype is Datatype.BF16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_array(tensor: torch.Tensor) -> Array:
    """Return the row-major array in the memory of a tensor on the CPU; of one laid out in another way, of a copy."""
    if tensor.dtype is torch.bfloat16:
        array: Array = tensor.view(torch.uint16).numpy(force=True).view(Datatype.BF16.dtype)
    else:
        array = tensor.numpy(force=True)
    return array if array.flags.c_contiguous else array.copy(order="C")
