"""What a .keras file may hold: Keras builds a model from names of classes in it, and HDF5 can point at other files.

`safe_mode` refuses code that is written into the file. It does not keep a file from naming whatever Keras itself can
import, layers that read files, or arrays of absurd size: that is done here, before Keras sees the file.
Layout: keras/src/saving/saving_lib.py, keras/src/saving/serialization_lib.py.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import h5py

from pilothouse_runtime.engine.failures import unloadable

_METADATA: Final = "metadata.json"
_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.weights.h5"
_MEMBERS: Final = frozenset({_METADATA, _CONFIG, _WEIGHTS})
_CHUNK: Final = 1024 * 1024  # bytes
_SMALL: Final = 64 * 1024 * 1024  # bytes: what arrays may always declare
_EXPANSION: Final = 8
_DEEPEST: Final = 64  # groups in groups

_EXPORT: Final = 'model.export(folder, format="tf_saved_model") or model.export(file, format="onnx")'
# What makes parts of a model, and nothing that trains, saves, downloads or shows one.
_MODULES: Final = re.compile(
    r"keras(\.src)?(\.(activations|constraints|dtype_policies|initializers|layers|models|ops|quantizers|random"
    r"|regularizers)(\.\w+)*)?",
    re.ASCII,
)
_FUNCTION_MODULES: Final = re.compile(r"builtins|keras(\.src)?\.(activations|ops)(\.\w+)*", re.ASCII)
_CODE: Final = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_NEED_TENSORFLOW: Final = frozenset(
    {"StringLookup", "IntegerLookup", "TextVectorization", "Hashing", "HashedCrossing", "FeatureSpace"}
    | {"TFSMLayer", "__typespec__"}
)
_VALUES: Final = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
)


def checked_config(path: Path) -> dict[str, Any]:
    """Return the configuration of the model in a .keras file, without what is for training only.

    Raises:
        LoadError: ModelLoadFailed, where building it could run code or read files, or the file is not as Keras 3
            writes it.
    """
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: entry for entry in archive.infolist()}
        for name in sorted(_MEMBERS - members.keys()):
            raise unloadable(f"{path.name} holds no {name}; save the model again with model.save()")
        for name in sorted(members.keys() - _MEMBERS):
            if name.startswith("assets/"):
                raise _needs_tensorflow(path, "tables of words (assets)")
            raise unloadable(f"{path.name} holds {name!r}, which Keras does not write")
        _check_version(path, _parsed(path, archive, _METADATA))
        config = _parsed(path, archive, _CONFIG)
    for item in _objects(config):
        _check_object(path, item)
    return config


def checked_weights(path: Path, folder: Path) -> Path:
    """Return the file of the weights, unpacked into a folder: reading HDF5 out of an archive goes back and forth.

    Raises:
        LoadError: ModelLoadFailed, where they lie elsewhere, or would take absurd memory.
    """
    file = folder / _WEIGHTS
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS) as packed, file.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, _CHUNK)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise unloadable(f"{path.name}: {_WEIGHTS} cannot be unpacked: {error}") from None
    except OSError as error:
        raise unloadable(
            f"{path.name}: there is no room to unpack its weights in {folder.parent}: {error.strerror}",
            permanent=False,
        ) from None
    _check_weights(path, file)
    return file


def _parsed(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        data = json.loads(archive.read(name))
    except (ValueError, RecursionError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise unloadable(f"{path.name}: {name} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise unloadable(f"{path.name}: {name} is no JSON object")
    return data


def _check_version(path: Path, metadata: Mapping[str, Any]) -> None:
    version = metadata.get("keras_version")
    if not isinstance(version, str) or not version.startswith("3."):
        raise unloadable(
            f"{path.name} was saved by Keras {str(version)[:20]}; load it there, and save it with Keras 3"
        )


def _objects(root: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all that Keras would make an object of, however deep it lies; optimizers and losses are taken out."""
    left = [root]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            item.pop("compile_config", None)
            left += item.values()
            if "class_name" in item:
                yield item


def _check_object(path: Path, item: Mapping[str, Any]) -> None:
    kind, module, registered = item["class_name"], item.get("module"), item.get("registered_name")
    settings = item.get("config")
    label = settings.get("name", "") if isinstance(settings, dict) else ""
    named = f" (layer {label!r})" if isinstance(label, str) and label else ""
    if not isinstance(kind, str):
        raise unloadable(f"{path.name}: {_CONFIG} names the class {str(kind)[:80]!r}")
    if kind in _CODE:
        raise unloadable(
            f"{path.name} holds Python code in a {kind.strip('_')}{named}, which is never run; use layers of Keras and"
            f" keras.ops in its place, or export the model where its code is: {_EXPORT}"
        )
    if kind in _NEED_TENSORFLOW:
        raise _needs_tensorflow(path, f"a {kind.strip('_')}{named}")
    if kind in _VALUES:
        return
    if kind == "function":
        if ">" in str(settings) or not _FUNCTION_MODULES.fullmatch(str(module)):
            raise _custom(path, "function", str(settings))
    elif module is None or not _MODULES.fullmatch(str(module)):
        raise _custom(path, "class", f"{registered or kind}{named}")


def _custom(path: Path, what: str, name: str) -> Exception:
    return unloadable(
        f"{path.name} needs the {what} {name[:120]}, which is not Keras's own, and whose code is not in the file;"
        f" export the model where that is: {_EXPORT}"
    )


def _needs_tensorflow(path: Path, what: str) -> Exception:
    return unloadable(
        f"{path.name} holds {what}, which runs on TensorFlow only; export the model as a SavedModel, with"
        ' model.export(folder, format="tf_saved_model")'
    )


def _check_weights(path: Path, file: Path) -> None:
    """Look at the place and the size of every array; none is read."""
    size = file.stat().st_size
    total = 0
    try:
        with h5py.File(file, "r") as weights:
            left = [(weights, "", 0)]
            while left:
                group, where, depth = left.pop()
                if depth > _DEEPEST:
                    raise unloadable(f"{path.name}: {_WEIGHTS} is nested too deeply at {where[:80]!r}")
                for name in group:
                    at = f"{where}/{name}"
                    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise unloadable(f"{path.name}: {at!r} in {_WEIGHTS} is a link to somewhere else")
                    item = group[name]
                    if isinstance(item, h5py.Group):
                        left.append((item, at, depth + 1))
                    else:
                        total += _bytes_of(path, at, item)
                    if total > max(_SMALL, _EXPANSION * size):
                        raise unloadable(
                            f"{path.name}: {_WEIGHTS} is {size:,} bytes long and declares arrays of more than"
                            f" {total:,}: no model does that"
                        )
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise unloadable(f"{path.name}: {_WEIGHTS} is broken: {error}") from None


def _bytes_of(path: Path, at: str, item: Any) -> int:
    if not isinstance(item, h5py.Dataset) or item.dtype.hasobject:
        raise unloadable(f"{path.name}: {at!r} in {_WEIGHTS} is no array of numbers")
    if item.external or item.is_virtual:
        raise unloadable(f"{path.name}: the numbers of {at!r} in {_WEIGHTS} lie in another file")
    return int(math.prod(item.shape or ()) * item.dtype.itemsize)
