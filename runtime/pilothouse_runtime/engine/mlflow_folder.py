"""Looks into a folder of MLflow: which model in it is to be loaded, and how MLflow describes it.

MLflow itself is not needed, and no loader that the folder names (`loader_module`, `code`) is run. Source: MLflow,
"MLflow Models", on the storage format.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from pilothouse_runtime.core.tensors import ANY, Datatype, Signature, TensorSpec
from pilothouse_runtime.engine.failures import unloadable

FILE: Final = "MLmodel"
_MOST_BYTES: Final = 16 * 1024 * 1024
# By flavour: the field that names its file or folder, and what to look for in it; "" is the folder itself.
_FLAVOURS: Final = {
    "onnx": ("data", ("", "model.onnx")),
    "transformers": ("model_binary", ("",)),
    "keras": ("data", ("model.keras", "model", "")),  # model: exported by Keras as a SavedModel
    "tensorflow": ("saved_model_dir", ("model.keras", "")),
    "pytorch": ("model_data", ("model.pt2", "model.pth", "")),
}
_PICKLED: Final = (
    "which is kept as a pickle that could run any code and is never loaded; log the model with the flavour"
)
_DATATYPES: Final = {
    "bool": Datatype.BOOL,
    "float16": Datatype.FP16,
    "float32": Datatype.FP32,
    "float64": Datatype.FP64,
    "str": Datatype.BYTES,
    "object": Datatype.BYTES,
} | {
    f"{kind}int{bits}".lstrip(): Datatype(f"{kind.upper()}INT{bits}")
    for kind in ("", "u")
    for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Inner:
    """The model in the folder.

    Attributes:
        signature: what MLflow says of tensors, or None.
        tokenizer: the folder of a tokenizer that is kept beside the model, or None.
    """

    path: Path
    signature: Signature | None
    tokenizer: Path | None = None


def inner_model(folder: Path) -> Inner:
    """Return the model of the first flavour that can be loaded safely.

    Raises:
        LoadError: ModelLoadFailed; MLmodel is broken, leads out of the folder, or has no flavour that is loaded.
    """
    document = _document(folder)
    flavours = document.get("flavors")
    if not isinstance(flavours, dict) or not flavours:
        raise unloadable(f"{folder.name}/{FILE}: flavors must name at least one")
    for name, (field, places) in _FLAVOURS.items():
        if name not in flavours:
            continue
        content = flavours[name] if isinstance(flavours[name], dict) else {}
        base = _inside(folder, f"flavors.{name}.{field}", content.get(field, content.get("data", "data")))
        for place in places:
            path = base / place
            if path.exists() and (place or path.is_file() or name in ("transformers", "tensorflow", "keras")):
                tokenizer = folder / "components" / "tokenizer"
                return Inner(path, _signature(folder, document), tokenizer if tokenizer.is_dir() else None)
        raise unloadable(f"{folder.name}: the model of flavour {name} is missing: {base.relative_to(folder)}")
    told = ", ".join(sorted(map(str, flavours)))
    raise unloadable(
        f"{folder.name}/{FILE}: it has the flavours {told}, {_PICKLED} onnx, or wrap it in a folder of model.format"
        " python if you trust it"
    )


def _document(folder: Path) -> dict[str, Any]:
    file = folder / FILE
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise unloadable(f"{folder.name}/{FILE} is longer than any such file")
        content = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise unloadable(f"{folder.name}/{FILE}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise unloadable(f"{folder.name}/{FILE} is no YAML of plain values: {told[:200]}") from None
    if not isinstance(content, dict):
        raise unloadable(f"{folder.name}/{FILE} must be a mapping")
    return content


def _inside(folder: Path, field: str, value: Any) -> Path:
    if not isinstance(value, str) or PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
        raise unloadable(f"{folder.name}/{FILE}: {field} is {value!r}, which leads out of the folder")
    return folder / value


def _signature(folder: Path, document: dict[str, Any]) -> Signature | None:
    """Return MLflow's signature where it describes tensors; of columns of a table, None."""
    content = document.get("signature")
    if not isinstance(content, dict) or not content.get("inputs"):
        return None
    try:
        sides = [json.loads(content.get(side) or "[]") for side in ("inputs", "outputs")]
        if any(item.get("type") != "tensor" for side in sides for item in side):
            return None
        inputs, outputs = (
            tuple(_spec(item, f"{kind}_{index}") for index, item in enumerate(side))
            for kind, side in zip(("input", "output"), sides, strict=True)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unloadable(f"{folder.name}/{FILE}: signature: {error!r}") from None
    return Signature(inputs, outputs)


def _spec(item: dict[str, Any], unnamed: str) -> TensorSpec:
    described = item["tensor-spec"]
    shape = tuple(int(size) for size in described["shape"])
    if any(size < ANY for size in shape):
        raise ValueError(f"a shape is {list(shape)}")
    return TensorSpec(str(item.get("name") or unnamed), _DATATYPES[described["dtype"]], shape)
