"""A model as a pod would serve it: loaded by the runtime's own loader, and asked in this process."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from pilothouse_runtime import contract
from pilothouse_runtime.core.errors import LoadError, PackError, RequestError
from pilothouse_runtime.core.manifest import fields_of
from pilothouse_runtime.core.settings import Format, read_settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.core.tensors import Array, Signature, Tensor, TensorSpec, datatype_of
from pilothouse_runtime.engine.exporting.trained import SEED
from pilothouse_runtime.engine.loader import load
from pilothouse_runtime.engine.source import Source


class Served:
    """A model file or a packed folder, loaded and warmed up on the CPU.

    Args:
        inputs: declared, as `model.inputs` does it; none: the file knows.
        format_: as `model.format` has it, for those that are loaded by name only.
    Raises:
        PackError: it cannot be served; says why.
    """

    def __init__(
        self, path: Path, inputs: tuple[TensorSpec, ...] = (), format_: Format = Format.AUTO
    ) -> None:
        environment = {
            contract.ENV_MODEL_NAME: "packed",
            contract.ENV_MODEL_URI: path.resolve().as_uri(),
            contract.ENV_DEVICE: "cpu",
            contract.ENV_MODEL_FORMAT: format_,
        }
        if inputs:
            declared = {"inputs": [fields_of(spec) for spec in inputs]}
            environment[contract.ENV_MODEL_SIGNATURE] = json.dumps(declared)
        with _same_environment(), tempfile.TemporaryDirectory() as empty:
            try:
                loaded = load(read_settings(environment), Source(Path(empty), Path(empty)), Readiness())
            except LoadError as error:
                raise PackError(f"{path.name} cannot be served: {error.message}") from error
        self._model = loaded.model
        self.format = Format(loaded.description.format)
        self.signature: Signature | None = loaded.description.signature

    def answers(self, inputs: Mapping[str, Array], seed: int = SEED) -> dict[str, Array]:
        """Return the outputs by name, as `Trained.answers` does it.

        Raises:
            PackError: the model does not take the inputs, or fails.
        """
        tensors = [Tensor(name, datatype_of(array.dtype), array.copy()) for name, array in inputs.items()]
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                outputs = self._model.run(tensors)
        except RequestError as error:
            shapes = ", ".join(f"{tensor.name} {list(tensor.array.shape)}" for tensor in tensors)
            raise PackError(f"the packed model fails on {shapes}: {error.message}") from error
        return {tensor.name: np.array(tensor.array) for tensor in outputs}


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Undo what the loader sets for a process that does nothing but serve."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
