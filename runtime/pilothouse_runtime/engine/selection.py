"""From a file or folder to the backend that loads it, and what is told to that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.example import signature_by_example
from pilothouse_runtime.engine.failures import unloadable
from pilothouse_runtime.engine.formats import detect, locate
from pilothouse_runtime.engine.mlflow_folder import inner_model
from pilothouse_runtime.engine.model import PLAIN, LoadedModel, Options
from pilothouse_runtime.engine.registry import BACKENDS, Backend
from pilothouse_runtime.engine.warmup import Warm, warm_up


@dataclass(frozen=True)
class Selected:
    """A model that is about to be loaded.

    Attributes:
        declared: the user's signature, if any.
        fallback: the one of MLflow or of an example, for a model that has none otherwise.
    """

    path: Path
    backend: Backend
    declared: Signature | None
    options: Options = PLAIN
    fallback: Signature | None = None

    def load(self, device: Any) -> LoadedModel:
        """Load it; `device` and errors as in `registry`."""
        model = self.backend.load(self.path, device, self.declared, self.options)
        if model.signature is None and self.fallback is not None:
            del model
            model = self.backend.load(self.path, device, self.fallback, self.options)
        return model

    def warm_up(self, model: LoadedModel, max_batch: int) -> Warm:
        """Run the loaded model for the first time: see `warmup`, whose failures get the file's name here."""
        try:
            return warm_up(model, max_batch)
        except LoadError as error:
            raise LoadError(
                error.reason, f"{self.path.name}: {error.message}", permanent=error.permanent
            ) from error


def select(
    path: Path,
    wanted: Format,
    declared: Signature | None = None,
    options: Options = PLAIN,
    content_type: str = "",
) -> Selected:
    """Return the model in a file or folder, after a cheap look at it that runs nothing.

    Args:
        wanted: what the user says it is, or AUTO.
        declared: the user's signature, if any.
        content_type: what a server called the file, for messages.
    Raises:
        LoadError: ModelLoadFailed; what the file is instead, and what to do.
    """
    folder, path = path, locate(path, wanted)
    backend = BACKENDS[detect(path, wanted, content_type)]
    if backend.format is Format.MLFLOW:
        inner = inner_model(path)
        selected = select(inner.path, Format.AUTO, declared, replace(options, tokenizer=inner.tokenizer))
        return replace(selected, fallback=inner.signature)
    if not backend.module:
        raise unloadable(f"{path.name} is of format {backend.format}, which this release cannot load yet")
    return Selected(path, backend, declared, options, signature_by_example(folder))
