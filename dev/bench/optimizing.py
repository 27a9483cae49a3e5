"""What `runtime.optimize` gives: `python -m dev.bench.optimizing` prints seconds, size and how far off answers are.

Each way is loaded and checked as the runtime does it, and run by one thread. Seconds are those that the CPU was busy,
of the best of many runs, so that other work on the machine changes them little.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Final

import torch

from dev.bench import models, places
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.engine.backends import torchscript
from pilothouse_runtime.engine.likeness import deviation
from pilothouse_runtime.engine.model import LoadedModel, Options
from pilothouse_runtime.engine.optimizing import FORMATS
from pilothouse_runtime.engine.warmup import warm_up

_MODELS: Final = ("resnet18", "transformer")
_ROUNDS: Final = 15


def main() -> None:
    """Measure the models that take long enough for it to matter."""
    torch.set_num_threads(1)
    files = places.models(print)
    with tempfile.TemporaryDirectory() as scratch:
        for name in _MODELS:
            ways: dict[str, LoadedModel | None] = {"plain torch": None}
            for wanted in Optimize:
                if wanted is not Optimize.NONE and Format.TORCHSCRIPT not in FORMATS[wanted]:
                    print(f"{name}, {wanted}: not for {Format.TORCHSCRIPT}", flush=True)
                    continue
                try:
                    ways[wanted] = _load(files, name, wanted, Path(scratch))
                except LoadError as error:  # there may be no compiler
                    print(f"{name}, {wanted}: {error.message}", flush=True)
            for rows in (1, 8):
                _compare(name, rows, ways)


def _load(files: Path, name: str, wanted: Optimize, scratch: Path) -> LoadedModel:
    options = Options(optimize=wanted, scratch=scratch)
    model = torchscript.load(files / f"{name}.pt", torch.device("cpu"), None, options)
    warm_up(model, 8)
    return model


def _compare(name: str, rows: int, ways: dict[str, LoadedModel | None]) -> None:
    plain, x = models.build(name), models.sample(name, rows)
    kind = Datatype(models.KINDS[name].datatype)
    inputs = [Tensor(models.INPUT, kind, x.numpy())]
    with torch.inference_mode():
        want = [Tensor(models.OUTPUT, Datatype.FP32, plain(x).numpy())]
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(_ROUNDS):  # in turns, so that all have their part of whatever else goes on
        for way, model in ways.items():
            started = time.process_time()
            with torch.inference_mode():
                plain(x) if model is None else model.run(inputs)
            best[way] = min(best[way], time.process_time() - started)
    for way, model in ways.items():
        off = deviation(model.run(inputs), want)[0] if model else 0.0
        gain = best["plain torch"] / best[way]
        print(f"{name}, {rows} rows, {way}: {1e3 * best[way]:.1f} ms, {gain:.2f}x, {off:.3%} off", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
