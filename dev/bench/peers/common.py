"""What all peers' servers need: their settings from the environment, the model, and bodies to and from tensors.

It runs in the peers' environments, which have torch, numpy and orjson in common.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from dev.bench import models


@dataclass(frozen=True)
class Given:
    """How this server is to run.

    Attributes:
        model, form, folder: which model, how it is loaded (models.FORMS), and where its files are.
        batch: most rows that are run together; 1 is no batching.
        wait: milliseconds to wait for more of them.
        workers: processes, or whatever the peer calls so.
        threads: torch's, in each of them.
        json: whether tensors come and go as JSON and not as bytes.
    """

    model: str
    form: str
    folder: Path
    port: int
    batch: int
    wait: int
    workers: int
    threads: int
    json: bool


def given() -> Given:
    """Read the environment that `dev.bench.settings` has set."""

    def value(name: str) -> str:
        return os.environ[f"BENCH_{name}"]

    return Given(
        model=value("MODEL"),
        form=value("FORM"),
        folder=Path(value("FOLDER")),
        port=int(value("PORT")),
        batch=int(value("BATCH")),
        wait=int(value("WAIT")),
        workers=int(value("WORKERS")),
        threads=int(value("THREADS")),
        json=value("JSON") == "1",
    )


def load(how: Given) -> Callable[[Any], Any]:
    """Return the model as a function from numpy to numpy, warmed up for one row and for a full batch."""
    torch.set_num_threads(how.threads)
    model = models.load(how.model, how.form, how.folder)

    def run(rows: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(rows)).numpy()

    for rows in {1, 2, how.batch}:
        for _ in range(3):
            run(models.sample(how.model, rows).numpy())
    return run


def dtype(how: Given) -> Any:
    """The numpy type of the model's input."""
    return np.int64 if models.KINDS[how.model].datatype == "INT64" else np.float32


def row(body: bytes, how: Given) -> Any:
    """Return the one row in a body: an OIP request in JSON, or the bytes of the tensor (writable, for torch)."""
    shape = models.KINDS[how.model].row
    if how.json:
        return np.array(orjson.loads(body)["inputs"][0]["data"], dtype(how)).reshape(shape)
    return np.frombuffer(bytearray(body), dtype(how)).reshape(shape)


def answer(output: Any, how: Given) -> bytes:
    """Return the body that carries the answer to one row."""
    if how.json:
        return orjson.dumps({"outputs": [{"data": output}]}, option=orjson.OPT_SERIALIZE_NUMPY)
    content: bytes = output.tobytes()
    return content
