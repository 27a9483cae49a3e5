"""Clients of a real server that speak bytes, well or badly."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

from pilothouse_runtime import contract
from tests.support.http_wire import Answer
from tests.support.runtime_process import PATIENCE, RuntimeProcess


class Raw:
    """One connection; closed by its context."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close."""
        self._reader.close()
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset, as a client does that crashes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data: bytes) -> None:
        """Send all."""
        self.socket.sendall(data)

    def answer(self, head_only: bool = False) -> Answer:
        """Read one answer. Raises ConnectionError where there is none."""
        first = self._reader.readline()
        if not first.endswith(b"\r\n"):
            raise ConnectionError(f"no answer: {first!r}")
        status = int(first.split(b" ")[1])
        headers: dict[bytes, bytes] = {}
        while (line := self._reader.readline()) != b"\r\n":
            name, _, value = line.rstrip(b"\r\n").partition(b": ")
            headers[name] = value
        size = 0 if head_only or status == 100 else int(headers[b"content-length"])
        return Answer(status, headers, self._reader.read(size))

    def ended(self) -> bool:
        """Wait for the end of the connection, throwing away what still comes."""
        try:
            while self._reader.read(65536):
                pass
        except ConnectionError:
            return True
        return True


def metric(process: RuntimeProcess, name: str, label: str = "") -> float:
    """Return a metric of a process, summed over its labels that hold `label`."""
    with Raw(process.port) as raw:
        raw.send(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % contract.METRICS_PATH.encode())
        page = raw.answer().body.decode()
    lines = [line for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if label in line)


def rss(process: RuntimeProcess) -> int:
    """Return the bytes of memory that a process has."""
    pages = Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def row(*numbers: float) -> bytes:
    """Return the body of a request with one row."""
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": numbers}
    return json.dumps({"inputs": [tensor]}).encode()


def row_of(answer: Answer) -> list[float]:
    """Return the data of the first output."""
    assert answer.status == 200, answer
    data: list[float] = json.loads(answer.body)["outputs"][0]["data"]
    return data
