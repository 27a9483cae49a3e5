"""The bound: the least that a Python process can do between a socket and torch, with no features at all.

One thread, a bare protocol on uvloop, and the smallest HTTP parser that understands these requests. What became
readable in one turn of the loop is stacked and run at once. `python -m dev.bench.bound MODEL FORM FOLDER PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import torch
import uvloop

from dev.bench import models

_LENGTH = b"content-length:"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "


class _Batch:
    """Gathers rows until the loop has read all that was readable, then runs them together."""

    def __init__(self, model: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
        self._model = model
        self._row = models.KINDS[name].row
        self._dtype = np.int64 if models.KINDS[name].datatype == "INT64" else np.float32
        self._waiting: list[tuple[_Connection, Any]] = []

    def add(self, connection: _Connection, body: memoryview) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        self._waiting.append((connection, orjson.loads(body)["inputs"][0]["data"]))

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        rows = np.array([row for _, row in waiting], self._dtype).reshape(-1, *self._row)
        with torch.inference_mode():
            answers = self._model(torch.from_numpy(rows)).numpy()
        for (connection, _), answer in zip(waiting, answers, strict=True):
            output = {"name": models.OUTPUT, "datatype": "FP32", "shape": [1, *answer.shape], "data": answer}
            connection.answer(orjson.dumps({"outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY))


class _Connection(asyncio.Protocol):
    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._read = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head = self._read.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._read[:head].lower().index(_LENGTH) + len(_LENGTH)
        end = head + 4 + int(self._read[at : self._read.find(b"\r", at)])
        if len(self._read) >= end:
            body, self._read = memoryview(bytes(self._read))[head + 4 : end], self._read[end:]
            self._batch.add(self, body)

    def answer(self, body: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(b"%b%d\r\n\r\n%b" % (_HEAD, len(body), body))


async def _serve(name: str, form: str, folder: Path, port: int) -> None:
    batch = _Batch(models.load(name, form, folder), name)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(batch), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvloop.run(_serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
