"""Bodies as HTTP compresses them: gzip and deflate (RFC 9110, 8.4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from pilothouse_runtime.core.errors import Code, RequestError, invalid

_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 1  # numbers hardly get smaller by more effort


def check_encoding(encoding: str) -> None:
    """Check that bodies of this Content-Encoding can be read.

    Raises:
        RequestError: another encoding than gzip, deflate or identity.
    """
    if encoding not in ("identity", "gzip", "deflate"):
        raise RequestError(
            Code.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding: {encoding!r} is not read here; send gzip, deflate or plain bodies",
        )


def decompress(body: bytes | bytearray | memoryview, encoding: str, limit: int) -> bytearray:
    """Return a body as it was before it was compressed.

    Args:
        encoding: gzip or deflate.
        limit: the most bytes that may come out.
    Raises:
        RequestError: it is not so compressed, ends too early, goes on too long, or becomes larger than the limit.
    """
    data = memoryview(body)
    # What is called deflate is zlib's format; some clients send the bare stream, whose first byte looks different.
    bare = encoding == "deflate" and len(data) > 0 and data[0] & 0x0F != zlib.DEFLATED
    reader = zlib.decompressobj(_GZIP if encoding == "gzip" else -zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
    try:
        out = bytearray(reader.decompress(data, limit + 1))
    except zlib.error as error:
        raise invalid(f"the body is not {encoding}: {error}") from None
    if len(out) > limit:
        raise RequestError(Code.TOO_LARGE, f"the body is larger than {limit:,} bytes once it is decompressed")
    if not reader.eof:
        raise invalid(f"the body is not {encoding}: it ends too early")
    if reader.unused_data:
        raise invalid(f"the body is not {encoding}: {len(reader.unused_data)} bytes follow its end")
    return out


def choose_encoding(accepted: str) -> str | None:
    """Return the encoding to answer in by an Accept-Encoding header, or None for none: the first that we have."""
    for item in accepted.split(","):
        name, _, weight = item.partition(";")
        if name.strip().lower() in ("gzip", "deflate") and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip().lower()
    return None


def compress(pieces: Sequence[bytes | bytearray | memoryview], encoding: str) -> bytes:
    """Return the pieces together in an encoding, gzip or deflate."""
    writer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if encoding == "gzip" else zlib.MAX_WBITS)
    return b"".join([*(writer.compress(piece) for piece in pieces), writer.flush()])
