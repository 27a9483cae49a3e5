"""An HTTP server that misbehaves on purpose, in the way that the first part of a path says.

As a context manager in tests, or `python -m tests.support.badserver --host 127.0.0.1 --port 8000 --root DIR`:

    /good/F         the file, with ETag and ranges
    /plain/F        the file, without ETag or ranges
    /cut/F          half of the file, then the connection is reset; every time
    /cut-once/F     the same the first time, then as good
    /cut-plain/F    the same the first time, then as plain
    /short/F        half of the file under the whole one's Content-Length, then an orderly end
    /short-once/F   the same the first time, then as good
    /stall/F        half of the file, then silence
    /silent/F       no answer at all
    /drip/F         one byte at a time
    /slow/F         the file, in some 12 seconds
    /flaky/F        503 twice, then as good
    /redirect/F     302 to /good/F      /loop/F    302 to itself     /elsewhere/F  302 to an ftp:// address
    /auth/F         the file, for who sends any Authorization; 401 for others
    /away/F         302 to /auth/F under another name of this host, as hubs do with large files
    /lengthless/F   the file, without its length
    /huge/F         the file, under a length of 8 exabytes
    /html/F         200 with a login page in place of the file
    /404/F /403/F   ... or any other status
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import ClassVar
from urllib.parse import unquote

_CHANGED = "Thu, 01 Jan 2026 00:00:00 GMT"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title><style>p {color: red}</style></head><body><p>Please log in"


class BadServer:
    """Serves `files` by name, from a thread, until the block ends.

    Attributes:
        url: http://host:port.
        seen: every request as (path with query, headers), in the order in which they came.
    """

    def __init__(self, files: Mapping[str, bytes], host: str = "127.0.0.1", port: int = 0) -> None:
        self.files = dict(files)
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.counts: Counter[str] = Counter()
        self.over = threading.Event()
        handler = type("Handler", (_Handler,), {"bad": self})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> BadServer:
        threading.Thread(target=self._server.serve_forever, daemon=True, args=(0.05,)).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def requests_of(self, path: str) -> list[dict[str, str]]:
        """Return the headers of every request for a path."""
        return [headers for seen, headers in self.seen if seen.split("?", 1)[0] == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bad: ClassVar[BadServer]

    def do_GET(self) -> None:
        path = self.path.split("?", 1)[0]
        self.bad.seen.append((self.path, dict(self.headers)))
        self.bad.counts[path] += 1
        _, behaviour, name = path.split("/", 2)
        times = self.bad.counts[path]
        body = self.bad.files.get(unquote(name))
        if behaviour == "auth" and "Authorization" not in self.headers:
            behaviour = "401"
        if behaviour.isdigit():
            self._answer(int(behaviour), b"no", "text/plain")
        elif behaviour == "silent":
            self.bad.over.wait()
            self.close_connection = True
        elif behaviour == "html":
            self._answer(200, PAGE, "text/html; charset=utf-8")
        elif behaviour in ("redirect", "loop", "elsewhere", "away"):
            places = {
                "redirect": f"/good/{name}",
                "loop": self.path,
                "elsewhere": f"ftp://127.0.0.1/{name}",
                "away": f"http://localhost:{self.server.server_address[1]}/auth/{name}",
            }
            self._redirect(places[behaviour])
        elif body is None:
            self._answer(404, b"no such file", "text/plain")
        elif behaviour == "flaky" and times <= 2:
            self._answer(503, b"busy", "text/plain")
        elif behaviour in ("good", "flaky", "auth") or (
            behaviour in ("cut-once", "short-once") and times > 1
        ):
            self._ranged(body)
        elif behaviour == "slow":
            self._slow(body)
        elif behaviour == "lengthless":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.write(body)
        elif behaviour == "huge":
            self.send_response(200)
            self.send_header("Content-Length", str(2**63 - 1))
            self.end_headers()
            self.close_connection = True
        elif behaviour == "plain" or (behaviour == "cut-plain" and times > 1):
            self._answer(200, body, "application/octet-stream")
        else:
            self._half(body, behaviour)

    def _answer(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self, place: str) -> None:
        self._answer(302, b"", "text/plain", Location=place, Retry_After="1000000")

    def _ranged(self, body: bytes) -> None:
        asked = self.headers.get("Range", "")
        if asked and self.headers.get("If-Range") in (None, _etag(body)):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            place = f"bytes {start}-{len(body) - 1}/{len(body)}"
            headers = {"Content_Range": place, "ETag": _etag(body), "Last_Modified": _CHANGED}
            self._answer(206, body[start:], "application/octet-stream", **headers)
        else:
            headers = {"Accept_Ranges": "bytes", "ETag": _etag(body), "Last_Modified": _CHANGED}
            self._answer(200, body, "application/octet-stream", **headers)

    def _slow(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        piece = -(-len(body) // 48)
        with contextlib.suppress(OSError):
            for start in range(0, len(body), piece):
                self.wfile.write(body[start : start + piece])
                if self.bad.over.wait(0.25):
                    return

    def _half(self, body: bytes, behaviour: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if behaviour.endswith("-once"):
            self.send_header("ETag", _etag(body))
            self.send_header("Last-Modified", _CHANGED)
        self.end_headers()
        if behaviour == "drip":
            with contextlib.suppress(OSError):
                for index in range(len(body)):
                    self.wfile.write(body[index : index + 1])
                    if self.bad.over.wait(0.05):
                        return
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if behaviour == "stall":
            self.bad.over.wait()
        elif behaviour.startswith("cut"):
            # An end without goodbye: lingering for no time makes the kernel send a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


def _etag(body: bytes) -> str:
    return f'"{len(body)}-{sum(body[:1000])}"'


def main() -> None:
    """Serve the files of a folder until interrupted."""
    parser = argparse.ArgumentParser(
        description="A misbehaving file server; its paths are told in its source."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--root", type=Path, required=True)
    given = parser.parse_args()
    files = {path.name: path.read_bytes() for path in given.root.iterdir() if path.is_file()}
    with BadServer(files, given.host, given.port) as server:
        server.over.wait()


if __name__ == "__main__":
    main()
