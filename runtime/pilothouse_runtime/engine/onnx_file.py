"""Tells an ONNX file by walking over the fields of its outermost protobuf message, without reading them.

ONNX has no magic number. Sources: onnx.proto3 (ModelProto); Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import Final

from pilothouse_runtime.engine.looks import Look

_VARINT, _LENGTH_DELIMITED = 0, 2
# Of ModelProto, by number: the wire type of each field.
_FIELDS: Final = {
    1: _VARINT,  # ir_version
    2: _LENGTH_DELIMITED,  # producer_name
    3: _LENGTH_DELIMITED,
    4: _LENGTH_DELIMITED,
    5: _VARINT,
    6: _LENGTH_DELIMITED,
    7: _LENGTH_DELIMITED,  # graph
    8: _LENGTH_DELIMITED,  # opset_import
    14: _LENGTH_DELIMITED,
    20: _LENGTH_DELIMITED,
    25: _LENGTH_DELIMITED,
    26: _LENGTH_DELIMITED,
}
_GRAPH: Final = 7
_MOST_FIELDS: Final = 10_000
_NEWEST: Final = 99  # versions of the format that there may ever be


def is_onnx(look: Look) -> bool:
    """Whether a file is an ONNX model, or was before it was cut off."""
    if look.head[:1] != b"\x08" or not 0 < int.from_bytes(look.head[1:2], "little") <= _NEWEST:
        return False
    seen = set()
    with look.path.open("rb") as file:
        for _ in range(_MOST_FIELDS):
            start = file.tell()
            if start >= look.size:
                break
            tag = _varint(file.read(10))
            if tag is None:
                return False
            (key, used) = tag
            number, kind = key >> 3, key & 7
            if _FIELDS.get(number) != kind:
                return False
            file.seek(start + used)
            value = _varint(file.read(10))
            if value is None:
                return False
            length, more = value
            file.seek(start + used + more + (length if kind == _LENGTH_DELIMITED else 0))
            seen.add(number)
    return _GRAPH in seen


def _varint(data: bytes) -> tuple[int, int] | None:
    """Return a number and how many bytes it takes; None where it has no end."""
    value = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, index + 1
    return None
