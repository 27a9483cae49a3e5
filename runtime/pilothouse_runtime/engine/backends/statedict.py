"""The state dict backend: tensors that torch.save wrote, for a network that the spec names.

Only where the spec says so: the file is a pickle. torch reads it with an unpickler of its own that makes tensors and
plain containers only, and refuses all else (`weights_only`).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.factories import NetworkModel, network_of
from pilothouse_runtime.engine.failures import first_cause, unloadable
from pilothouse_runtime.engine.model import PLAIN, Options

_SAVE = "save the weights alone: torch.save(model.state_dict(), path)"


class StateDictModel(NetworkModel):
    """A network with weights from a state dict."""

    format = Format.STATEDICT
    platform = "pytorch_statedict"


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> StateDictModel:
    """Load weights into the network that `options.factory` makes.

    Args:
        declared: the user's signature, if any: the file has none.
    Raises:
        LoadError: ModelLoadFailed; also where the pickle asks for anything but tensors.
    """
    try:
        # Mapped, the file's pages are read where the network takes them, and are never memory of this process.
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_plain(path))
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        told = f"its pickle asks for {asked[1]}" if asked else "its pickle holds more than tensors"
        raise unloadable(f"{path.name}: {told}, which is never loaded; {_SAVE}") from None
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(f"{path.name}: torch cannot read this file: {first_cause(error)}") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in tensors.items()
    ):
        raise unloadable(f"{path.name} holds no tensors by name at its top; {_SAVE}")
    network = network_of(path, options.factory, tensors, device)
    return StateDictModel(network, declared, device, tensors, path, options)


def _is_plain(path: Path) -> bool:
    """Say whether an archive holds its members as they are: torch.save does not compress, and maps nothing else."""
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
