# mypy: ignore-errors
# (see __init__.py)
"""mosec: one stage of workers, batched by its Rust front, as its documentation shows for PyTorch."""

from __future__ import annotations

import sys

import numpy as np
from mosec import Server, Worker

from dev.bench.peers import common

HOW = common.given()


class Model(Worker):
    """Bodies are read with orjson or taken as bytes; mosec's own are json and msgpack, both slower."""

    resp_mime_type = "application/json" if HOW.json else "application/octet-stream"

    def __init__(self):
        super().__init__()
        self.run = common.load(HOW)

    def deserialize(self, data):
        return common.row(data, HOW)

    def serialize(self, data):
        return common.answer(data, HOW)

    def forward(self, data):
        if HOW.batch == 1:
            return self.run(data[np.newaxis])[0]
        return list(self.run(np.stack(data)))


if __name__ == "__main__":
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(HOW.port), "--timeout", "60000"]
    threads = [{"OMP_NUM_THREADS": str(HOW.threads)}] * HOW.workers
    server = Server()
    server.append_worker(
        Model, num=HOW.workers, max_batch_size=HOW.batch, max_wait_time=HOW.wait, env=threads, timeout=60
    )
    server.run()
