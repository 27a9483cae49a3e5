"""The first runs of a model, before anybody waits for an answer: they find a signature that does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.tensors import ANY, Signature, Tensor
from pilothouse_runtime.engine.formats import unloadable
from pilothouse_runtime.engine.model import BATCHES, LoadedModel, Shapes, describe_output

log = logging.getLogger(__name__)

# TorchScript watches the first runs and compiles in the next: a user's request should find that done.
_RUNS = 3


def warm_up(model: LoadedModel) -> None:
    """Run the model on zeros of the sizes its signature allows, alone and as a small batch.

    Raises:
        LoadError: ModelLoadFailed, where it fails or returns something else than the signature says.
    """
    signature = model.signature
    if signature is None:
        log.warning(
            "no warm-up, and no metadata of inputs and outputs: neither the model's file nor model.inputs holds a"
            " signature"
        )
        return
    can_batch = any(ANY in spec.shape for spec in signature.inputs)
    for batch in BATCHES if can_batch else BATCHES[:1]:
        _warm_one(model, signature, model.warmup_shapes(batch))


def _warm_one(model: LoadedModel, signature: Signature, candidates: Iterable[Shapes]) -> None:
    problem = ""
    for shapes in candidates:
        zeros = [
            Tensor(spec.name, spec.datatype, np.zeros(shape, spec.datatype.dtype))
            for spec, shape in zip(signature.inputs, shapes, strict=True)
        ]
        try:
            for _ in range(_RUNS):
                outputs = model.run(zeros)
        except RequestError as error:
            problem = f"warm-up with {_shown(zeros)}: {error.message}"
            continue
        _check_outputs(signature, zeros, outputs)
        return
    raise unloadable(f"{problem}; do model.inputs and model.outputs describe this model?")


def _check_outputs(signature: Signature, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    for want, got in zip(signature.outputs, map(describe_output, outputs), strict=False):
        if got.datatype is not want.datatype or not want.accepts(got.shape):
            raise unloadable(
                f"warm-up with {_shown(inputs)}: output {want.name!r} should be {want.datatype}"
                f" {list(want.shape)}, the model returned {got.datatype} {list(got.shape)}"
            )


def _shown(tensors: list[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype} {list(tensor.array.shape)}" for tensor in tensors)
