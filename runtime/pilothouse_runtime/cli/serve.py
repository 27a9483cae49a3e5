"""`pilothouse-runtime serve`: one model on this machine, in the server that pods run."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pilothouse_runtime import contract
from pilothouse_runtime.cli.curl import NotAnsweredError, get, working_line
from pilothouse_runtime.cli.usage import (
    DONE,
    REFUSED,
    UnwritableError,
    command,
    count,
    existing,
    number,
    port,
    refuse,
    show,
    tell,
)
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.manifest import GOLDEN_FILE, MANIFEST_FILE, name_and_version
from pilothouse_runtime.engine.forked import end_with_parent
from pilothouse_runtime.engine.golden import read_golden
from pilothouse_runtime.engine.source import LocalFile
from pilothouse_runtime.workers.unix import ending

_DESCRIPTION = """\
Serve one model on this machine, with no cluster: the same server that the operator runs in pods, over REST and gRPC
of the Open Inference Protocol v2. When the model is ready, a curl line is printed that it has just answered.

  $ pilothouse-runtime serve models/digits/2
  Loading: loading model.pt2 (exported)
  ...
  ready: http://localhost:8080/v2/models/digits (gRPC: localhost:8081)
  curl -s http://localhost:8080/v2/models/digits/infer -d '{"inputs": [...]}'

PATH is a model file, or a folder: one that `pack` wrote, or any other that the format is made of. Ctrl-C ends it.
"""
_ENDING = """\
exit codes: 0 it was told to end; 1 the model cannot be served, or a port is taken: it says why; 2 wrong use
All else that a pod's environment may say is taken from this environment: PILOTHOUSE_EXPLAIN=1,
PILOTHOUSE_OPTIMIZE=bf16, PILOTHOUSE_MODEL_FACTORY=module:function and others (docs/runtime.md, Settings).
"""
_PAUSE = 0.1  # seconds
_EXAMPLE_NUMBERS = 100  # of an example that a line shows


def run(words: Sequence[str]) -> int:
    """Serve as `words` say until the server ends, and return its exit code."""
    parser = command("serve", _DESCRIPTION, _ENDING)
    parser.add_argument("path", type=existing, metavar="PATH", help="a model file or a model's folder")
    parser.add_argument("--name", default="", help="name of the model in URLs (by default from PATH)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)"
    )
    parser.add_argument(
        "--port", type=port, default=contract.HTTP_PORT, help="of REST (8080); 0: any free one"
    )
    parser.add_argument(
        "--grpc-port", type=port, default=contract.GRPC_PORT, help="of gRPC (8081); 0: any free one"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), help="what to run on (auto: a GPU if there is one)"
    )
    parser.add_argument("--workers", type=count, metavar="N", help="processes that share the model (1)")
    parser.add_argument(
        "--batch-size", type=count, metavar="ROWS", help="the most rows run as one (32); 1: no batching"
    )
    parser.add_argument(
        "--batch-delay", type=number, metavar="MS", help="the most milliseconds to wait for more (2)"
    )
    parser.add_argument("--format", help="how the model is written, where that is not to be seen (auto)")
    parser.add_argument("--access-log", action="store_true", help="write a line for each request")
    parser.add_argument("--json-logs", action="store_true", help="write the log as pods do, in JSON")
    given = parser.parse_args(words)
    name = given.name or name_and_version(given.path)[0]
    with tempfile.TemporaryDirectory(prefix="pilothouse-serve-") as folder:
        server = _start(given, name, Path(folder))
        told_to_end = False

        def end(*_: object) -> None:
            nonlocal told_to_end
            told_to_end = True
            server.terminate()

        for number_ in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number_, end)
        _follow(server, given, name)
        code = server.wait()
    if told_to_end or code in (DONE, REFUSED):
        return max(code, DONE)
    refuse(
        "serve", f"the server {ending(code)}, without a word: by the model's own code, or for want of memory"
    )


def _start(given: argparse.Namespace, name: str, folder: Path) -> subprocess.Popen[str]:
    """Start the server that pods run, told by its environment as there."""
    chosen = {
        contract.ENV_MODEL_NAME: name,
        contract.ENV_MODEL_URI: given.path.resolve().as_uri(),
        contract.ENV_DEVICE: given.device,
        contract.ENV_WORKERS: given.workers,
        contract.ENV_BATCH_MAX_SIZE: given.batch_size,
        contract.ENV_BATCH_MAX_DELAY: given.batch_delay,
        contract.ENV_MODEL_FORMAT: given.format,
        contract.ENV_ACCESS_LOG: "1" if given.access_log else None,
    }
    # Nobody has to learn here that it goes away.
    environment = {contract.ENV_DRAIN_DELAY: "0", **os.environ}
    environment |= {variable: str(value) for variable, value in chosen.items() if value is not None}
    parent = os.getpid()
    listening = ["--host", given.host, "--port", str(given.port), "--grpc-port", str(given.grpc_port)]
    places = ["--cache-dir", str(folder), "--termination-log", str(folder / "last-words")]
    return subprocess.Popen(
        [sys.executable, "-m", "pilothouse_runtime", *listening, *places],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us: it is passed on as SIGTERM
        preexec_fn=lambda: end_with_parent(parent),
    )


def _follow(server: subprocess.Popen[str], given: argparse.Namespace, name: str) -> None:
    """Pass on the server's log until it ends, and introduce the model when it is ready."""
    ports: dict[str, Any] = {}
    assert server.stderr is not None  # noqa: S101 - it is a pipe
    for line in server.stderr:
        record = _record(line)
        if given.json_logs or "msg" not in record or "path" in record:
            tell(line.rstrip("\n"))
        elif record["msg"] not in ("listening", "ready"):
            tell(
                record["msg"] if record.get("level") == "info" else f"{record.get('level')}: {record['msg']}"
            )
        if record.get("msg") == "listening":
            ports = record
        elif record.get("msg") == "ready" and ports:
            url = f"http://localhost:{ports['port']}/v2/models/{quote(name, safe='')}"
            tell(f"ready: {url} (gRPC: localhost:{ports['grpc_port']})")
            # The server must not wait until its log is read.
            threading.Thread(target=_introduce, args=(ports["port"], name, given.path), daemon=True).start()


def _introduce(port: int, name: str, path: Path) -> None:
    try:
        while get(port, contract.READY_PATH)[0] != 200:  # of several workers, the first may still be coming
            time.sleep(_PAUSE)
        show(working_line(port, name, _example(path)))
    except NotAnsweredError as error:
        tell(f"no curl line: {error}; it takes requests as docs/runtime.md shows them")
    except (OSError, ValueError, HTTPException, UnwritableError) as error:
        tell(f"no curl line: {error}")


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _example(path: Path) -> dict[str, Any]:
    """Return one row of a packed folder's golden data set, as nested lists; {} where it is none, or is long."""
    golden = path / GOLDEN_FILE
    if not (path / MANIFEST_FILE).is_file() or not golden.is_file():
        return {}
    try:
        inputs = read_golden(LocalFile(golden), needs_outputs=False).inputs
        short = sum(array[:1].size for array in inputs.values()) <= _EXAMPLE_NUMBERS
        return {name: _plain(array[:1].tolist()) for name, array in inputs.items()} if short else {}
    except (LoadError, UnicodeDecodeError):  # JSON has no bytes that are no text
        return {}


def _plain(value: Any) -> Any:
    """Return nested lists with texts in place of their bytes."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value
