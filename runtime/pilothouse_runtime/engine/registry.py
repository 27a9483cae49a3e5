"""The formats of models: how a file or folder is told to be of one, and which module loads it.

A backend is a module in `engine/backends` with

    def load(path: Path, device: ..., declared: Signature | None, options: Options = PLAIN) -> LoadedModel

that raises `failures.unloadable(...)`, naming the file and the cause. `declared` is the signature that the user
gave, if any: `core.signature.reconcile` joins it with what the file says. `device` is a torch.device for backends on
torch, and for others the Device of the settings, which may be AUTO. Recognising imports nothing heavy and reads next to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.engine.failures import unloadable
from pilothouse_runtime.engine.looks import Look
from pilothouse_runtime.engine.onnx_file import is_onnx

if TYPE_CHECKING:
    from pilothouse_runtime.engine.model import LoadedModel

_SAFETENSORS_HEADER: Final = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class Backend:
    """One format.

    Attributes:
        recognises: whether a look shows a model of this format.
        module: in `engine/backends`; "" where this release has none yet.
        library: that runs the model, as people call it. On torch, the loader starts it and chooses the device.
        package: the library's name in Python; "" for none.
        image: of this project, which holds it; otherwise: how else a pod comes to that.
        by_name: for a format that is never chosen by itself, why, after the name of the file; "" for others.
    """

    format: Format
    recognises: Callable[[Look], bool]
    module: str = ""
    library: str = "PyTorch"
    package: str = "torch"
    image: str = "runtime"
    otherwise: str = "leave it out"
    by_name: str = ""

    @property
    def on_torch(self) -> bool:
        """Whether torch runs the model."""
        return self.library == "PyTorch"

    def require(self, name: str) -> None:
        """Look for the library, which not every image holds, without importing it.

        Args:
            name: of the model's file or folder.
        Raises:
            LoadError: ModelLoadFailed; it is missing, and which image has it.
        """
        if self.package and find_spec(self.package) is None:
            told = f"{name} is of format {self.format}, and this image holds no {self.library}: let runtime.image name"
            raise unloadable(
                f"{told} the one that does (.../{self.image}, of the same version), or {self.otherwise}"
            )

    @property
    def load(self) -> Callable[..., LoadedModel]:
        """The backend's function, imported now: that may take seconds."""
        module: Any = import_module(f"pilothouse_runtime.engine.backends.{self.module}")
        return module.load  # type: ignore[no-any-return] # of a module that is named by a text


def _is_torchscript(look: Look) -> bool:
    has_code = any(name.startswith("code/") for name in look.archive)
    return {"constants.pkl", "data.pkl"} <= look.archive and has_code


def _is_native(look: Look) -> bool:
    return any(name.startswith("data/aotinductor/") for name in look.archive)


def _is_exported(look: Look) -> bool:
    return {"archive_format", "models/model.json"} <= look.archive and not _is_native(look)


def _is_state_dict(look: Look) -> bool:
    return "data.pkl" in look.archive and not _is_torchscript(look)


def _is_safetensors(look: Look) -> bool:
    length = int.from_bytes(look.head[:8], "little")
    named = look.path.suffix == ".safetensors"  # one whose header lies is broken, but is one
    return look.head[8:9] == b"{" and (named or length <= _SAFETENSORS_HEADER)


def _is_keras(look: Look) -> bool:
    written = {"metadata.json", "config.json", "model.weights.h5"}
    return len(written & look.archive) > 1  # one that lacks a part is told so


def _is_saved_model(look: Look) -> bool:
    return bool({"saved_model.pb", "saved_model.pbtxt"} & look.folder)


def _is_transformers(look: Look) -> bool:
    weights = any(name.startswith(("model", "pytorch_model")) and "/" not in name for name in look.folder)
    return "config.json" in look.folder and weights


# In the order in which `auto` asks them: a folder of MLflow may hold any other.
BACKENDS: Final = {
    backend.format: backend
    for backend in (
        Backend(Format.MLFLOW, lambda look: "MLmodel" in look.folder),
        Backend(
            Format.TENSORFLOW,
            _is_saved_model,
            "savedmodel",
            library="TensorFlow",
            package="tensorflow",
            image="runtime-tensorflow",
            otherwise="for a SavedModel outside of a folder of MLflow set model.format: tensorflow and leave it out",
        ),
        Backend(Format.TRANSFORMERS, _is_transformers, "transformers"),
        Backend(Format.TORCHSCRIPT, _is_torchscript, "torchscript"),
        Backend(
            Format.AOTINDUCTOR,
            _is_native,
            "aotinductor",
            by_name="holds native code (AOTInductor), which may do anything that this container may; set model.format:"
            " aotinductor if you trust it",
        ),
        Backend(Format.EXPORTED, _is_exported, "exported"),
        Backend(
            Format.STATEDICT,
            _is_state_dict,
            "statedict",
            by_name="was written by torch.save: weights or objects without their code, in a pickle that could run any"
            " code and is never loaded; export the model with torch.export.save (.pt2) or torch.jit.save (.pt). The"
            " tensors of a state dict are read with model.format: statedict and a model.factory",
        ),
        Backend(Format.KERAS, _is_keras, "keras3"),
        Backend(Format.SAFETENSORS, _is_safetensors, "safetensors"),
        Backend(Format.ONNX, is_onnx, "onnx", library="ONNX Runtime", package="onnxruntime"),
        Backend(
            Format.PYTHON,
            lambda look: "model.py" in look.folder,
            "python",
            library="Python",
            package="",
            by_name="holds a program (model.py), which may do anything that this container may; set model.format:"
            " python if you trust it",
        ),
    )
}
