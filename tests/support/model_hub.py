"""A server that speaks as much of the Hugging Face hub's API as downloads need; large files lie on another host."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class ModelHub:
    """One repository, whose files are `files`. With a token it is private.

    Attributes:
        url: for HF_ENDPOINT.
        seen: every request as (host, path, authorization).
    """

    def __init__(self, repo: str, files: Mapping[str, bytes], token: str = "") -> None:
        self.repo, self.files, self.token = repo, dict(files), token
        self.seen: list[tuple[str, str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True, args=(0.05,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[ModelHub]

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.split("?", 1)[0]
        hub.seen.append((self.headers["Host"], path, self.headers.get("Authorization", "")))
        if path.startswith("/cdn/"):
            self._answer(200, hub.files[path.removeprefix("/cdn/")])
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, b"{}", **{"X-Error-Code": "RepoNotFound"})
        elif path == f"/api/models/{hub.repo}/revision/main":
            self._answer(200, json.dumps(self._info()).encode())
        elif path.startswith(f"/api/models/{hub.repo}/revision/"):
            self._answer(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/{hub.repo}/resolve/{COMMIT}/"):
            name = path.split(f"/{COMMIT}/", 1)[1]
            if name.endswith(".safetensors"):
                place = f"http://localhost:{hub.port}/cdn/{name}"
                self._answer(302, b"", Location=place)
            else:
                self._answer(200, hub.files[name])
        else:
            self._answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    def _info(self) -> dict[str, object]:
        siblings = []
        for name, body in self.hub.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(body), "blobId": "0" * 40}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(body).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 130}
            siblings.append(entry)
        return {
            "id": self.hub.repo,
            "sha": COMMIT,
            "siblings": siblings,
            "tags": [],
            "private": bool(self.hub.token),
        }

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass
