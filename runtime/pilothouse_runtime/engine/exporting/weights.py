"""Weights of a module from a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.engine.failures import first_cause


def load_weights(model: Any, path: Path) -> None:
    """Load a safetensors file into a module; the names in both must be the same.

    Raises:
        PackError: the file is none, or has other tensors than the module.
    """
    if not isinstance(model, nn.Module):
        raise PackError(f"weights: are for a module, and the model is a {type(model).__name__}")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PackError(
            f"weights: {path.name} is not read as safetensors: {error}. Where torch.save wrote it, load it in Python,"
            " and write it anew: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from None
    try:
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise PackError(f"weights: {path.name} does not fit the model: {first_cause(error)}") from None
    if missing or unknown:
        raise PackError(
            f"weights: {path.name} does not fit the model: it lacks {', '.join(missing) or 'nothing'}, and has no"
            f" place for {', '.join(unknown) or 'nothing'}"
        )
