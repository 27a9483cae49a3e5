"""A small Azure Blob Storage: it lists and gives the files of folders, to who signs with the account's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT: Final = "pilothouse"
ACCOUNT_KEY: Final = "plantedKeyOfTheAccount12"  # in base64, as all of them
_OTHER_KEY: Final = "plantedButWrong+"
_CHANGED: Final = "Thu, 01 Jan 2026 00:00:00 GMT"
# What is signed after the method, in this order (Azure documentation, "Authorize with Shared Key").
_SIGNED: Final = (
    *("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date"),
    *("If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"),
)


def secret_for(url: str, key: str = ACCOUNT_KEY) -> dict[str, str]:
    """Return what a Secret with credentials for a server at `url` holds."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": key,
        "AZURE_STORAGE_ENDPOINT": f"{url}/{ACCOUNT}",
    }


def wrong_secret_for(url: str) -> dict[str, str]:
    """Return the same with a key that is not the account's."""
    return secret_for(url, _OTHER_KEY)


class BlobStore:
    """Serves the folders in `root` as containers, from a thread, until the block ends."""

    scheme: ClassVar = "az"
    key: ClassVar = ACCOUNT_KEY

    def __init__(self, root: Path) -> None:
        self.root = root
        handler = type("Handler", (_Handler,), {"root": root})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.secret = secret_for(url)
        self.wrong = wrong_secret_for(url)

    def __enter__(self) -> BlobStore:
        threading.Thread(target=self._server.serve_forever, daemon=True, args=(0.05,)).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: ClassVar[Path]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if self.headers.get("Authorization") != _authorization(self.path, self.headers):
            return self._refuse(403, "Server failed to authenticate the request.")
        _, _, container, *names = unquote(parts.path).split("/")
        if not (self.root / container).is_dir():
            return self._refuse(404, "The specified container does not exist.")
        if query.get("comp") == "list":
            return self._answer(self._listed(container, query.get("prefix", "")), "application/xml")
        file = self.root.joinpath(container, *names)
        if not file.is_file():
            return self._refuse(404, "The specified blob does not exist.")
        return self._answer(file.read_bytes(), "application/octet-stream")

    def _listed(self, container: str, prefix: str) -> bytes:
        top = self.root / container
        names = {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{_CHANGED}</Last-Modified>"
            f"<Content-Length>{path.stat().st_size}</Content-Length><Content-Type>application/octet-stream"
            "</Content-Type><Etag>1</Etag></Properties></Blob>"
            for name, path in sorted(names.items())
            if name.startswith(prefix)
        )
        return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>".encode()

    def _refuse(self, status: int, message: str) -> None:
        self._answer(f"<Error><Message>{message}</Message></Error>".encode(), "application/xml", status)

    def _answer(self, body: bytes, content_type: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", _CHANGED)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


def _authorization(path: str, headers: Mapping[str, str]) -> str:
    """Return how a GET that has these headers is signed with the account's key."""
    parts = urlsplit(path)
    own = sorted((name.lower(), value) for name, value in headers.items() if name.lower().startswith("x-ms-"))
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    signed = {name: headers.get(name, "") for name in _SIGNED}
    if signed["Content-Length"] == "0":
        signed["Content-Length"] = ""
    lines = [
        "GET",
        *signed.values(),
        *(f"{name}:{value}" for name, value in own),
        f"/{ACCOUNT}{parts.path}",
        *(f"{name}:{value}" for name, value in query),
    ]
    signature = hmac.digest(base64.b64decode(ACCOUNT_KEY), "\n".join(lines).encode(), hashlib.sha256)
    return f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
