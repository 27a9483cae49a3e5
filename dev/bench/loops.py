"""A plain Python loop around a model: `python -m dev.bench.loops MODEL FOLDER SECONDS` prints a JSON line for each way.

It is the most that one process can do with a model, without any server: over forms, threads and batches.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from dev.bench import models

_BATCHES = {"eager": (1, 2, 4, 8, 16, 32), "torchscript": (1, 8, 32), "exported": (1, 8, 32)}


def main(name: str, folder: Path, seconds: float) -> None:
    """Measure each way for about `seconds`, and for two calls at least."""
    for form in models.FORMS:
        model = models.load(name, form, folder)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for batch in _BATCHES[form]:
                rows = models.sample(name, batch)
                with torch.inference_mode():
                    model(rows)
                    began, calls = time.perf_counter(), 0
                    while calls < 2 or time.perf_counter() - began < seconds:
                        model(rows)
                        calls += 1
                    rate = calls * batch / (time.perf_counter() - began)
                print(
                    json.dumps({"form": form, "threads": threads, "batch": batch, "rate": rate}), flush=True
                )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
