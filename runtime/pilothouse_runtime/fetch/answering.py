"""Answers at `contract.READY_PATH` while a model is fetched, so that whoever asks the pod hears how far it is."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pilothouse_runtime import contract
from pilothouse_runtime.core.states import Readiness, ready_body

log = logging.getLogger(__name__)
_TIMEOUT = 5  # seconds for a request to come; who is slower is not waited for


def answer(readiness: Readiness, host: str, port: int) -> int:
    """Answer in a thread until the process ends, and return the port; a port that is taken is no reason to fail."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT

        def do_GET(self) -> None:
            """Tell how far it is; it is never ready for requests."""
            known = self.path == contract.READY_PATH
            body = json.dumps(ready_body(readiness)).encode() if known else b"{}"
            self.send_response(503 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing: who asks, asks every second."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        log.warning("nobody can ask how far it is: cannot listen on port %d: %s", port, error.strerror)
        return 0
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="answering", daemon=True).start()
    return int(server.server_address[1])
