"""The first runs of a model, before anybody waits for an answer.

They find a signature that does not fit, let the model choose its fastest form, and decide whether rows of several
requests may be run as one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.tensors import ANY, Signature, Tensor
from pilothouse_runtime.engine.batchable import find_flaw, made_up, obstacle, timed, zeros
from pilothouse_runtime.engine.failures import unloadable
from pilothouse_runtime.engine.model import LoadedModel, Shapes, describe_output

log = logging.getLogger(__name__)

# TorchScript watches the first run and compiles in the second: a user's request should find that done. Later sizes of
# the batch cost nothing of this kind.
_RUNS: Final = 3
# Seconds that a run of the largest batch may be expected to take: a start waits for it, and its activations are memory
# that stays. Larger sizes are learnt from requests, one after the other (`core.batching.Sizes`).
_AFFORDABLE: Final = 0.1


@dataclass(frozen=True)
class Warm:
    """What the first runs have shown.

    Attributes:
        max_batch: the most rows of several requests that may be run as one; 1 means never more than one request.
        reason: why that is less than was asked for, or "".
        seconds: of one run, by its rows; {} for a model without a signature, and 1 for what a request of any fixed
            size takes.
    """

    max_batch: int = 1
    reason: str = ""
    seconds: Mapping[int, float] = field(default_factory=dict)


def warm_up(model: LoadedModel, max_batch: int = 1) -> Warm:
    """Run the model on made-up inputs of the sizes its signature allows, alone and as batches.

    Args:
        max_batch: the most rows that are wanted in a batch.
    Raises:
        LoadError: ModelLoadFailed, where it fails or returns something else than the signature says.
    """
    signature = model.signature
    if signature is None:
        log.warning(
            "no warm-up, no batching, and no metadata of inputs and outputs: neither the model's file nor model.inputs"
            " holds a signature"
        )
        return Warm(reason="the model has no signature")
    shapes = _warm_one(model, signature, model.warmup_shapes(1))
    seconds = {1: _settle(model, signature, shapes)}
    if any(ANY in spec.shape for spec in signature.inputs):
        shapes = _warm_one(model, signature, model.warmup_shapes(2))
    if max_batch == 1:
        return Warm(1, "", seconds)
    reason = obstacle(signature) or find_flaw(model, signature, shapes, seconds)
    if reason:
        log.info("requests are run one by one: %s", reason)
        return Warm(1, reason, seconds)
    return _largest(model, signature, shapes, max_batch, seconds)


def _settle(model: LoadedModel, signature: Signature, shapes: Shapes) -> float:
    """Let the model choose how it runs, and return the seconds that this takes."""
    seconds = model.settle(made_up(signature, shapes))
    if seconds is not None:
        return seconds
    inputs = zeros(signature, shapes)
    for _ in range(_RUNS - 1):
        model.run(inputs)
    return timed(model, inputs)[1]


def _warm_one(model: LoadedModel, signature: Signature, candidates: Iterable[Shapes]) -> Shapes:
    """Run zeros of the first shapes that the model takes, and return these."""
    problem = ""
    for shapes in candidates:
        inputs = zeros(signature, shapes)
        try:
            outputs = model.run(inputs)
        except RequestError as error:
            problem = f"warm-up with {_shown(inputs)}: {error.message}"
            continue
        _check_outputs(signature, inputs, outputs)
        return shapes
    raise unloadable(f"{problem}; do model.inputs and model.outputs describe this model?")


def _largest(
    model: LoadedModel, signature: Signature, shapes: Shapes, wanted: int, seconds: dict[int, float]
) -> Warm:
    """Find the most rows that the model takes: half as many, as long as it fails."""
    rows, reason = wanted, ""
    if model.max_rows is not None and model.max_rows < rows:
        rows, reason = model.max_rows, f"the model's file allows {model.max_rows} rows"
    most = max(seconds)
    while rows > most and seconds[most] / most * rows < _AFFORDABLE:
        batch = zeros(signature, tuple((rows, *shape[1:]) for shape in shapes))
        try:
            seconds[rows] = timed(model, batch)[1]
            break
        except RequestError as error:
            reason = f"{rows} rows at once: {error.message}"
            rows //= 2
    if reason:
        log.info("at most %d rows are run as one: %s", rows, reason)
    return Warm(rows, reason, seconds)


def _check_outputs(signature: Signature, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    for want, got in zip(signature.outputs, map(describe_output, outputs), strict=False):
        if got.datatype is not want.datatype or not want.accepts(got.shape):
            raise unloadable(
                f"warm-up with {_shown(inputs)}: output {want.name!r} should be {want.datatype}"
                f" {list(want.shape)}, the model returned {got.datatype} {list(got.shape)}"
            )


def _shown(tensors: list[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype} {list(tensor.array.shape)}" for tensor in tensors)
