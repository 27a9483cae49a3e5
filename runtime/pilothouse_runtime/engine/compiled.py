"""Compiles a model in the pod that serves it, in a process of its own, and runs what came of it.

torch's compiler takes hundreds of megabytes and starts threads, and both would stay with the server.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Optimize
from pilothouse_runtime.digests import file_sha256
from pilothouse_runtime.engine.failures import not_optimizable
from pilothouse_runtime.engine.native import native_program, release

log = logging.getLogger(__name__)

PACKAGE: Final = "model.pt2"
ANSWER: Final = "answer.json"  # what the process that compiled has told
_PROGRAM: Final = "pilothouse_runtime.engine.exporting.apart"
_LAST: Final = 500  # characters of what a process said before it died


@dataclass(frozen=True)
class Order:
    """What is to be compiled; the process that does it gets this as JSON.

    Attributes:
        path: of the model's file, absolute.
        signature: as `PILOTHOUSE_MODEL_SIGNATURE` has it.
        folder: to write to.
        parent: the id of the process that waits.
    """

    path: str
    format: str
    signature: str
    folder: str = ""
    parent: int = 0


def compiled_function(order: Order, scratch: Path) -> Callable[..., Any]:
    """Return a function of a model's tensors that runs it compiled for this CPU.

    What is compiled is kept: a container that starts again in the same pod finds it.

    Args:
        scratch: a folder of this container's own.
    Raises:
        LoadError: OptimizationFailed; there is no compiler here, or it does not take the model.
    """
    folder = scratch / "compiled" / _key(order)
    if not folder.exists():
        _compile(order, folder)
    names = tuple(json.loads((folder / ANSWER).read_text())["names"])
    run = native_program(folder / PACKAGE).boxed_run

    def call(*inputs: torch.Tensor) -> Any:
        leaves: Sequence[torch.Tensor] = run([tensor.contiguous() for tensor in inputs])
        return dict(zip(names, leaves, strict=True)) if names else leaves

    return call


def _key(order: Order) -> str:
    """Name what comes of a file by all that decides it."""
    cpu = sorted(name for name, has in torch.cpu.get_capabilities().items() if has)
    parts = (
        file_sha256(Path(order.path)),
        order.format,
        order.signature,
        release(),
        platform.machine(),
        *map(str, cpu),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _compile(order: Order, folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # of a start that was cut short
    part.mkdir(parents=True)
    log.info("compiling the model, which takes a minute or more")
    started = time.monotonic()
    asked = asdict(order) | {"folder": str(part), "parent": os.getpid()}
    work = part / "work"  # Python's and the compiler's; the package holds all that is needed
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", _PROGRAM],  # nothing from wherever this server was started
        input=json.dumps(asked),
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(work), "TMPDIR": str(work)},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(work)
    if failure := _failure(done, part / ANSWER):
        shutil.rmtree(part)
        raise failure
    part.rename(folder)
    log.info("the model is compiled", extra={"seconds": round(time.monotonic() - started, 1)})


def _failure(done: subprocess.CompletedProcess[str], answer: Path) -> LoadError | None:
    if done.returncode == 0:
        told = json.loads(answer.read_text())
        return not_optimizable(Optimize.COMPILE, told["failure"]) if "failure" in told else None
    log.error("the process that compiles said: %s", done.stderr[-_LAST:])
    how = (
        f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
    )
    message = (
        f"runtime.optimize is {Optimize.COMPILE}, but the process that compiles {how}; is memory enough?"
    )
    return LoadError(FailureReason.OPTIMIZATION_FAILED, message, permanent=False)
