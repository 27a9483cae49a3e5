"""Whether a model's rows do not know of each other, so that rows of several requests may be run as one.

A free first dimension alone does not say so: it may be time, or the model may normalise, attend or sort over it. So
it is tried with rows of random numbers.
"""

from __future__ import annotations

import math
import time
from typing import Final

import numpy as np

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.tensors import ANY, Array, Datatype, Signature, Tensor
from pilothouse_runtime.engine.likeness import copies, difference
from pilothouse_runtime.engine.model import LoadedModel, Shapes
from pilothouse_runtime.engine.stacking import split, stack

_RUNS: Final = 3
_QUICK: Final = 0.01  # seconds
_FLOATS: Final = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})
_ALL_DIFFERENT: Final = _FLOATS | {Datatype.BYTES}
_WORDS: Final = ("one", "red", "house", "7", "runs", "slowly", "and", "over", "night")
_SEED: Final = 20240229
# Requests of so many rows are run alone, then all together.
_TRIALS: Final = ((1, 1), (1, 2))


def obstacle(signature: Signature) -> str:
    """Return what in a signature forbids batches, or ""."""
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.shape[:1] != (ANY,):
                return f"{kind} {spec.name!r} has no free first dimension: {spec.datatype} {list(spec.shape)}"
    return "" if signature.inputs else "the model has no inputs"


def find_flaw(model: LoadedModel, signature: Signature, shapes: Shapes, seconds: dict[int, float]) -> str:
    """Return in which way joined requests get other answers than alone, or "" where they get the same.

    Args:
        shapes: that the model takes, apart from the first dimensions.
        seconds: gets what runs of so many rows took, at best.
    """
    random = np.random.default_rng(_SEED)

    def run(inputs: list[Tensor]) -> list[Tensor]:
        outputs, took = timed(model, inputs)
        rows = len(inputs[0].array)
        seconds[rows] = min(took, seconds.get(rows, took))
        return outputs

    for trial in _TRIALS:
        jobs = [_rows(signature, shapes, rows, random) for rows in trial]
        _tell_apart(jobs)
        told = " and ".join(map(str, trial))
        try:
            alone = [run(job) for job in jobs]
            together = split(run(stack(jobs)), trial)
        except RequestError as error:
            return f"made-up requests of {told} rows, joined: {error.message}"
        for want, got in zip(alone, together, strict=True):
            if flaw := difference(got, want):
                return f"made-up requests of {told} rows get another answer joined than alone: {flaw}"
    return ""


def timed(model: LoadedModel, inputs: list[Tensor]) -> tuple[list[Tensor], float]:
    """Return what a run gives, and the seconds that it takes; of a quick one the best of some.

    Raises:
        RequestError: the model does not take the inputs, or failed.
    """
    best = math.inf
    for _ in range(_RUNS):
        given = copies(inputs)
        started = time.perf_counter()
        outputs = model.run(given)
        best = min(best, took := time.perf_counter() - started)
        if took > _QUICK:
            break
    return copies(outputs), best


def zeros(signature: Signature, shapes: Shapes) -> list[Tensor]:
    """Return inputs of these shapes: zeros, and empty texts for BYTES."""
    return [
        Tensor(spec.name, spec.datatype, _filled(spec.datatype, shape))
        for spec, shape in zip(signature.inputs, shapes, strict=True)
    ]


def made_up(signature: Signature, shapes: Shapes) -> list[Tensor]:
    """Return inputs of these shapes: normally distributed floats, words for BYTES, and 0 or 1 for all else.

    The same in every call.
    """
    random = np.random.default_rng(_SEED)
    return [
        Tensor(spec.name, spec.datatype, _numbers(spec.datatype, shape, random))
        for spec, shape in zip(signature.inputs, shapes, strict=True)
    ]


def _rows(signature: Signature, shapes: Shapes, rows: int, random: np.random.Generator) -> list[Tensor]:
    return [
        Tensor(spec.name, spec.datatype, _numbers(spec.datatype, (rows, *shape[1:]), random))
        for spec, shape in zip(signature.inputs, shapes, strict=True)
    ]


def _filled(datatype: Datatype, shape: tuple[int, ...]) -> Array:
    if datatype is Datatype.BYTES:
        return np.full(shape, b"", datatype.dtype)
    return np.zeros(shape, datatype.dtype)


def _numbers(datatype: Datatype, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    if datatype is Datatype.BYTES:
        lines = [
            " ".join(random.choice(_WORDS, random.integers(1, 9))).encode() for _ in range(math.prod(shape))
        ]
        return np.array(lines, datatype.dtype).reshape(shape)
    numbers = random.standard_normal(shape) if datatype in _FLOATS else random.integers(0, 2, shape)
    return np.asarray(numbers).astype(datatype.dtype)


def _tell_apart(jobs: list[list[Tensor]]) -> None:
    """Make requests of 0 and 1 differ in their first elements: equal rows would show nothing."""
    for number, job in enumerate(jobs):
        for tensor in job:
            if tensor.datatype not in _ALL_DIFFERENT and tensor.array.size:
                tensor.array.flat[0] = number % 2
