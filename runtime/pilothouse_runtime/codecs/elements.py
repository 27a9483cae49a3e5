"""The elements of one tensor, as JSON lists and as raw bytes.

Source: Open Inference Protocol v2, "Tensor Data", and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.tensors import Array, Datatype

Buffer = bytes | bytearray | memoryview

_LENGTH_BYTES: Final = 4  # each BYTES element follows its length, a little-endian 32-bit integer
_KINDS: Final = {
    "b": "i",
    "i": "iu",
    "u": "iu",
    "f": "iuf",
}  # numpy kinds of JSON data that a dtype's kind takes


def from_json(where: str, datatype: Datatype, shape: tuple[int, ...], data: Any) -> Array:
    """Return the array in a list of values, flat in row-major order or nested like `shape`.

    Raises:
        RequestError: a value is of another type or out of range, or there are too few or too many.
    """
    if not isinstance(data, list):
        raise invalid(f"{where}.data: must be a list")
    if datatype is Datatype.BYTES:
        natural = _texts(where, data)
    else:
        try:
            natural = np.array(data)
        except ValueError:
            raise invalid(f"{where}.data: its nested lists differ in length") from None
    count = math.prod(shape)
    if natural.size != count or (natural.ndim > 1 and natural.shape != shape):
        raise invalid(f"{where}.data: shape {list(shape)} needs {count} values, got {_described(natural)}")
    if datatype is not Datatype.BYTES and count:
        natural = _converted(where, datatype, natural, data)
    return natural.astype(datatype.dtype, copy=False).reshape(shape)


def _converted(where: str, datatype: Datatype, natural: Array, data: list[Any]) -> Array:
    dtype = datatype.dtype
    if dtype.kind == "b":
        if natural.dtype.kind != "b":
            raise invalid(f"{where}.data: {datatype} takes true and false only")
        return natural
    if natural.dtype.kind not in _KINDS[dtype.kind]:
        # Integers beyond 2^63 beside smaller ones have no common integer type: numpy makes floats of them.
        integers = (
            dtype.kind in "iu" and natural.dtype.kind == "f" and all(type(x) is int for x in _flat(data))
        )
        if not integers:
            wanted = "numbers" if dtype.kind == "f" else "whole numbers"
            raise invalid(f"{where}.data: {datatype} takes {wanted} only")
    try:
        if dtype.kind in "iu":
            return np.array(data, dtype=dtype)
        with np.errstate(over="raise"):
            return natural.astype(dtype)
    except (OverflowError, FloatingPointError):
        raise invalid(f"{where}.data: a value is out of the range of {datatype}") from None


def _texts(where: str, data: list[Any]) -> Array:
    try:
        values = list(_flat(data))
    except RecursionError:
        raise invalid(f"{where}.data: its lists are nested too deeply") from None
    if not all(isinstance(value, str) for value in values):
        raise invalid(f"{where}.data: BYTES takes texts only")
    array = np.empty(len(values), dtype=np.object_)
    array[:] = [value.encode() for value in values]
    return array


def _flat(data: list[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _described(array: Array) -> str:
    return str(array.size) if array.ndim == 1 else f"{array.size} as {list(array.shape)}"


def to_json(where: str, array: Array) -> Array | list[str]:
    """Return what orjson writes as a flat list: BYTES as texts, NaN and infinities as null.

    Raises:
        RequestError: bytes that are not UTF-8 cannot be sent as JSON.
    """
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).reshape(-1)
    try:
        return [value.decode() for value in array.reshape(-1)]
    except UnicodeDecodeError:
        raise invalid(f"{where}: holds bytes that are not UTF-8; ask for it with binary_data: true") from None


def from_binary(where: str, datatype: Datatype, shape: tuple[int, ...], data: memoryview) -> Array:
    """Return the array in raw little-endian, row-major bytes, without a copy where memory allows.

    Raises:
        RequestError: the bytes are not as many as the shape needs.
    """
    count = math.prod(shape)
    if datatype is Datatype.BYTES:
        return _split(where, data, count).reshape(shape)
    needed = count * datatype.dtype.itemsize
    if len(data) != needed:
        raise invalid(f"{where}: {datatype} {list(shape)} needs {needed} bytes of data, got {len(data)}")
    if datatype is Datatype.BOOL:
        array: Array = np.frombuffer(data, np.uint8) != 0
    else:
        array = np.require(np.frombuffer(data, datatype.dtype), requirements="A")
    return array.reshape(shape)


def _split(where: str, data: memoryview, count: int) -> Array:
    values: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data) or start > len(data):
            raise invalid(f"{where}: element {len(values)} of its BYTES data ends beyond binary_data_size")
        values.append(bytes(data[start:at]))
    if len(values) != count:
        raise invalid(f"{where}: its shape needs {count} BYTES elements, got {len(values)}")
    array = np.empty(count, dtype=np.object_)
    array[:] = values
    return array


def to_binary(array: Array) -> bytes:
    """Return the elements as raw little-endian, row-major bytes."""
    if array.dtype.kind != "O":
        return array.tobytes()
    return b"".join(len(value).to_bytes(_LENGTH_BYTES, "little") + value for value in array.reshape(-1))
