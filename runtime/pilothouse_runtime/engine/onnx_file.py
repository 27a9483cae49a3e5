"""Looks into ONNX files without a library: is it one, and which other files does it name?

Walks over the fields of protobuf messages. ONNX has no magic number. Sources: onnx.proto3; Protocol Buffers,
"Encoding".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pilothouse_runtime.engine.looks import Look

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_GRAPH: Final = 7
# Of ModelProto, by number: the wire type of each field.
_FIELDS: Final = dict.fromkeys((2, 3, 4, 6, _GRAPH, 8, 14, 20, 25, 26), _LENGTH_DELIMITED) | {
    1: _VARINT,
    5: _VARINT,
}
_NEWEST: Final = 99  # versions of the format that there may ever be
_DEEPEST: Final = 64  # graphs in graphs

# Where tensors are: for each message its fields that are messages of interest.
_MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {_GRAPH: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}

Buffer = bytes | mmap.mmap


class BrokenFileError(ValueError):
    """The bytes are no protobuf message, or are cut off."""


def is_onnx(look: Look) -> bool:
    """Whether a file is an ONNX model, or was before it was cut off."""
    if look.head[:1] != b"\x08" or not 0 < look.head[1] <= _NEWEST:
        return False
    with look.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        seen = set()
        try:
            for number, kind, _, _ in _fields(data, 0, len(data)):
                if _FIELDS.get(number) != kind:
                    return False
                seen.add(number)
        except BrokenFileError:
            return True
    return _GRAPH in seen


def external_files(path: Path) -> set[str]:
    """Return the files, relative to the model, that it says its tensors are in.

    Raises:
        BrokenFileError: it cannot be walked over to its end.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return set(_locations(data, "model", 0, len(data), 0))


def _locations(data: Buffer, message: str, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise BrokenFileError("graphs are nested too deeply")
    for number, kind, begin, stop in _fields(data, start, end):
        inner = _MESSAGES[message].get(number)
        if inner is None or kind != _LENGTH_DELIMITED:
            continue
        if inner != "entry":
            yield from _locations(data, inner, begin, stop, depth + 1)
            continue
        texts = {field: data[left:right] for field, _, left, right in _fields(data, begin, stop)}
        if texts.get(1) == b"location":
            yield texts.get(2, b"").decode("utf-8", "replace")


def _fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and where the content begins and ends, of each field of a message."""
    while start < end:
        key, start = _varint(data, start, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, stop = _varint(data, start, end)
        elif kind == _LENGTH_DELIMITED:
            length, start = _varint(data, start, end)
            stop = start + length
        elif kind in (_FIXED32, _FIXED64):
            stop = start + (4 if kind == _FIXED32 else 8)
        else:
            raise BrokenFileError(f"byte {start:,}: wire type {kind}")
        if stop > end:
            raise BrokenFileError(f"it is cut off: {stop:,} bytes are told of, there are {end:,}")
        yield number, kind, start, stop
        start = stop


def _varint(data: Buffer, start: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = 0
    for index in range(10):
        if start + index >= end:
            break
        byte = data[start + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, start + index + 1
    raise BrokenFileError(f"byte {start:,}: a number without an end")
