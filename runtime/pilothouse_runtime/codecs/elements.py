"""The elements of one tensor, as JSON lists and as raw bytes.

Source: Open Inference Protocol v2, "Tensor Data", and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np

from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.tensors import Array, Datatype

Buffer = bytes | bytearray | memoryview

_LENGTH_BYTES: Final = 4  # each BYTES element follows its length, a little-endian 32-bit integer
# Format characters of `struct`.
_CODES: Final = {
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.FP16: "e",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}
_SMALL: Final = 16 * 1024  # bytes that are copied sooner than wrapped
_KINDS: Final = {
    "b": "i",
    "i": "iu",
    "u": "iu",
    "f": "iuf",
    "V": "iuf",  # BF16
}  # numpy kinds of JSON data that a dtype's kind takes


def from_json(where: str, datatype: Datatype, shape: tuple[int, ...], data: Any) -> Array:
    """Return the array in a list of values, flat in row-major order or nested like `shape`.

    Raises:
        RequestError: a value is of another type or out of range, or there are too few or too many.
    """
    if not isinstance(data, list):
        raise invalid(f"{where}.data: must be a list")
    count = math.prod(shape)
    if (packed := _packed(datatype, shape, count, _flattened(data, shape))) is not None:
        return packed
    if datatype is Datatype.BYTES:
        natural = _texts(where, data)
    else:
        if _holds_texts(data):  # numpy would make room in each element for the longest of them
            raise invalid(f"{where}.data: {_taken(datatype)}")
        try:
            natural = np.array(data)
        except ValueError:
            raise invalid(f"{where}.data: its nested lists differ in length") from None
    if natural.size != count or (natural.ndim > 1 and natural.shape != shape):
        raise invalid(f"{where}.data: shape {list(shape)} needs {count} values, got {_described(natural)}")
    if datatype is not Datatype.BYTES and count:
        natural = _converted(where, datatype, natural, data)
    return natural.astype(datatype.dtype, copy=False).reshape(shape)


def _flattened(data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return the elements of lists that are nested like `shape`; other lists as they are."""
    if not data or type(data[0]) is not list or shape[:1] != (len(data),):
        return data
    level = data
    for size in shape[1:]:
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            return data
        level = list(chain.from_iterable(level))
    return level


@lru_cache(256)
def _packer(code: str, count: int) -> struct.Struct:
    """Return what packs so many numbers; `struct` keeps those of the last formats too, but formats are made anew."""
    return struct.Struct(f"<{count}{code}")


def _packed(datatype: Datatype, shape: tuple[int, ...], count: int, data: list[Any]) -> Array | None:
    """Return flat numbers, several times as fast as numpy makes an array of them; None where it is not so simple.

    `struct` refuses whatever is no number of the kind and range, but takes true for 1.
    """
    code = _CODES.get(datatype)
    if code is None or count != len(data) or not count or type(data[0]) is bool:
        return None
    packer = _packer(code, count)
    memory = bytearray(packer.size)
    try:
        packer.pack_into(memory, 0, *data)
    except (struct.error, OverflowError):
        return None  # what is wrong is told by the way that looks closer
    return np.ndarray(shape, datatype.dtype, memory)


def _converted(where: str, datatype: Datatype, natural: Array, data: list[Any]) -> Array:
    dtype = datatype.dtype
    if dtype.kind == "b":
        if natural.dtype.kind != "b":
            raise invalid(f"{where}.data: {_taken(datatype)}")
        return natural
    if natural.dtype.kind not in _KINDS[dtype.kind]:
        # Integers beyond 2^63 beside smaller ones have no common integer type: numpy makes floats of them.
        integers = (
            dtype.kind in "iu" and natural.dtype.kind == "f" and all(type(x) is int for x in _flat(data))
        )
        if not integers:
            raise invalid(f"{where}.data: {_taken(datatype)}")
    try:
        if dtype.kind in "iu":
            return np.array(data, dtype=dtype)
        with np.errstate(over="raise"):
            return _rounded(natural) if datatype is Datatype.BF16 else natural.astype(dtype)
    except (OverflowError, FloatingPointError):
        raise invalid(f"{where}.data: a value is out of the range of {datatype}") from None


def _taken(datatype: Datatype) -> str:
    wanted = {"b": "true and false", "i": "whole numbers", "u": "whole numbers"}
    return f"{datatype} takes {wanted.get(datatype.dtype.kind, 'numbers')} only"


def _holds_texts(data: list[Any]) -> bool:
    """Say whether there is a text in nested lists; level by level, which leaves the work to C."""
    while data:
        kinds = set(map(type, data))
        if str in kinds:
            return True
        if list not in kinds:
            return False
        data = list(chain.from_iterable(data if len(kinds) == 1 else [x for x in data if type(x) is list]))
    return False


def _rounded(numbers: Array) -> Array:
    """Return numbers as BF16, by way of float32 as torch does. Raises OverflowError where one becomes infinite."""
    single = numbers.astype(np.float32)
    rounded = single.astype(Datatype.BF16.dtype)  # of which numpy's errstate knows nothing
    if not np.array_equal(np.isinf(rounded), np.isinf(single)):
        raise OverflowError
    return rounded


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
    """Return what orjson writes as a flat list: BYTES as texts, NaN and infinities as null, BF16 as the same FP32.

    Raises:
        RequestError: bytes that are not UTF-8 cannot be sent as JSON.
    """
    kind = array.dtype.kind
    if kind == "V":
        return array.astype(np.float32).reshape(-1)
    if kind != "O":
        return array.ravel()
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


def to_binary(array: Array) -> Buffer:
    """Return the elements as raw little-endian, row-major bytes: of a large array a view, else a copy."""
    if array.dtype.kind == "O":
        return b"".join(len(value).to_bytes(_LENGTH_BYTES, "little") + value for value in array.reshape(-1))
    if array.nbytes < _SMALL:
        return array.tobytes()
    return array.reshape(-1).view(np.uint8).data  # not of its own type: BF16 has no buffers
