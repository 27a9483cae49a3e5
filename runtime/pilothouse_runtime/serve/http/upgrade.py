"""Requests that offer to go on in another protocol, which a server may take as if they did not (RFC 9110, 7.8).

The parser ends such a request with its head, and takes its body for the other protocol. Java's HttpClient offers h2c
with each first request of a connection, also with those that have a body.
"""

from __future__ import annotations

from collections.abc import Mapping


def without_offer(method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """Return the head of an HTTP/1.1 request as it would be without the offer.

    Args:
        headers: by lower-case name; what there may be one of only has been checked.
    """
    options = [option.strip().lower() for option in headers.get(b"connection", b"").split(b",")]
    kept = {
        name: value
        for name, value in headers.items()
        if name not in (b"upgrade", b"connection", b"http2-settings")
    }
    if b"close" in options:
        kept[b"connection"] = b"close"
    lines = [b"%b: %b\r\n" % header for header in kept.items()]
    return b"".join([b"%b %b HTTP/1.1\r\n" % (method, target), *lines, b"\r\n"])
