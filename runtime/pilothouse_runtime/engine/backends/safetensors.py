"""The safetensors backend: weights without code, for a network that the spec names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.factories import NetworkModel, network_of
from pilothouse_runtime.engine.failures import unloadable
from pilothouse_runtime.engine.model import PLAIN, Options


class SafetensorsModel(NetworkModel):
    """A network with weights from a safetensors file."""

    format = Format.SAFETENSORS
    platform = "pytorch_safetensors"


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> SafetensorsModel:
    """Load weights into the network that `options.factory` makes.

    Args:
        declared: the user's signature, if any: the file has none.
    Raises:
        LoadError: ModelLoadFailed.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise unloadable(f"{path.name} is a broken safetensors file: {error}") from error
    network = network_of(path, options.factory, tensors, device)
    return SafetensorsModel(network, declared, device, tensors, path, options)
