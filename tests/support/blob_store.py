"""A small Azure Blob Storage: it lists, gives and takes the files of folders, from who may do that (`azure_access`)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support import azure_access as access

_UNKNOWN: Final = "Server failed to authenticate the request."
_CHANGED: Final = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass(frozen=True)
class SignIn:
    """A way to sign in to a store: what a Secret holds for it, with what is right and with what is planted and wrong.

    Attributes:
        key: of the right one, a part that nobody may be told.
    """

    root: Path
    secret: dict[str, str]
    wrong: dict[str, str]
    key: str
    scheme: ClassVar = "az"


def ways_to(url: str, root: Path) -> dict[str, SignIn]:
    """Return the ways to sign in to a server at `url`, by name."""
    place = {
        "AZURE_STORAGE_ACCOUNT_NAME": access.ACCOUNT,
        "AZURE_STORAGE_ENDPOINT": f"{url}/{access.ACCOUNT}",
    }

    def way(variable: str, right: str, wrong: str, key: str, **more: str) -> SignIn:
        common = place | more
        return SignIn(root, common | {variable: right}, common | {variable: wrong}, key)

    token = access.sas()
    client = {
        "AZURE_CLIENT_ID": access.CLIENT,
        "AZURE_TENANT_ID": access.TENANT,
        "AZURE_AUTHORITY_HOST": url,
    }
    secret = access.CLIENT_SECRET
    return {
        "key": way("AZURE_STORAGE_ACCOUNT_KEY", access.ACCOUNT_KEY, access.OTHER_KEY, access.ACCOUNT_KEY),
        "sas": way("AZURE_STORAGE_SAS_TOKEN", token, access.forged(token), access.signature_in(token)),
        "client": way("AZURE_CLIENT_SECRET", secret, "planted-but-wrong", secret, **client),
    }


class BlobStore:
    """Serves the folders in `root` as containers, from a thread, until the block ends.

    Attributes:
        ways: to sign in.
    """

    def __init__(self, root: Path) -> None:
        handler = type("Handler", (_Handler,), {"root": root})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.ways = ways_to(f"http://127.0.0.1:{self._server.server_address[1]}", root)

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
        _, _, container, *names = unquote(parts.path).split("/")
        lists = query.get("comp") == "list"
        if why := access.refusal("GET", self.path, self.headers, container, "l" if lists else "r"):
            return self._refuse(403, _UNKNOWN, why)
        if not (self.root / container).is_dir():
            return self._refuse(404, "The specified container does not exist.")
        if lists:
            return self._answer(self._listed(container, query.get("prefix", "")), "application/xml")
        file = self.root.joinpath(container, *names)
        if not file.is_file():
            return self._refuse(404, "The specified blob does not exist.")
        return self._answer(file.read_bytes(), "application/octet-stream")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, _, container, *names = unquote(urlsplit(self.path).path).split("/")
        if why := access.refusal("PUT", self.path, self.headers, container, "c"):
            return self._refuse(403, _UNKNOWN, why)
        file = self.root.joinpath(container, *names)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        return self._answer(b"", "application/octet-stream", 201)

    def do_POST(self) -> None:
        """Answer as the service that gives tokens."""
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        if self.path != f"/{access.TENANT}/oauth2/v2.0/token":
            return self._refuse(404, "There is nothing else to post to.")
        status, body = access.token_for(form)
        return self._answer(body.encode(), "application/json", status)

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

    def _refuse(self, status: int, message: str, detail: str = "") -> None:
        told = f"<Message>{message}</Message><AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>"
        self._answer(f"<Error>{told}</Error>".encode(), "application/xml", status)

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
