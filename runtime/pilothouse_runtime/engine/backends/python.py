"""The Python backend: a user's own class. Only where the spec says so: it may do anything that the container may.

A folder with model.py in it, which holds

    class Model:
        def load(self, folder: pathlib.Path) -> None: ...
        def preprocess(self, inputs: dict[str, numpy.ndarray]) -> dict: ...     # may be left out
        def predict(self, inputs: dict) -> dict[str, numpy.ndarray]: ...
        def postprocess(self, outputs: dict) -> dict[str, numpy.ndarray]: ...   # may be left out
        signature = {"inputs": [...], "outputs": [...]}                         # may be left out
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pilothouse_runtime.core.errors import Code, LoadError, RequestError, invalid
from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.core.signature import SignatureError, parse_signature, reconcile
from pilothouse_runtime.core.tensors import Array, Datatype, Signature, Tensor, datatype_of
from pilothouse_runtime.engine.failures import UnservableError, unloadable
from pilothouse_runtime.engine.model import PLAIN, LoadedModel, Options

FILE: Final = "model.py"
_MODULE: Final = "pilothouse_model"


class PythonModel(LoadedModel):
    """An object of the user's class, run by one thread at a time: nobody promised that it may be by several."""

    format = Format.PYTHON
    platform = "python"
    reentrant = False

    def __init__(self, folder: Path, model: Any, signature: Signature | None) -> None:
        super().__init__(signature)
        self._folder = folder
        self._model = model
        self._outputs = {spec.name: spec for spec in signature.outputs} if signature else {}

    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `LoadedModel`. A ValueError from preprocess is the request's fault, all else the model's."""
        values: Any = {tensor.name: tensor.array for tensor in inputs}
        for step in ("preprocess", "predict", "postprocess"):
            method = getattr(self._model, step, None)
            if method is None:
                continue
            try:
                values = method(values)
            except MemoryError:
                raise
            except (Exception, SystemExit) as error:
                if step == "preprocess" and isinstance(error, ValueError):
                    raise invalid(str(error)) from error
                told = f"the model's own code failed: {_told(self._folder, error)}"
                raise RequestError(Code.INTERNAL, told) from error
        return self._named(values)

    def _named(self, values: Any) -> list[Tensor]:
        if not isinstance(values, Mapping):
            raise UnservableError(f"it is a {type(values).__name__}, not a dict of arrays by name")
        if self._outputs and set(values) != set(self._outputs):
            raise UnservableError(
                f"it is {', '.join(map(str, values))}; the signature has {', '.join(self._outputs)}"
            )
        tensors = [_tensor(str(name), values[name]) for name in self._outputs or values]
        for tensor in tensors:
            want = self._outputs.get(tensor.name)
            # The warm-up has seen some of its answers; code may give others.
            if want and (tensor.datatype is not want.datatype or not want.accepts(tensor.array.shape)):
                got = f"{tensor.datatype} {list(tensor.array.shape)}"
                raise UnservableError(f"{tensor.name} is {got}; the signature has {want}")
        return tensors


def load(path: Path, device: Device, declared: Signature | None, options: Options = PLAIN) -> PythonModel:
    """Make the user's object and let it load.

    Args:
        path: the folder.
        device: is not given to the class: it is in PILOTHOUSE_DEVICE.
        declared: the user's signature, if any; the class may have one.
    Raises:
        LoadError: ModelLoadFailed; where it is the class's own failure, with its file and line.
    """
    kind = _class_in(path)
    try:
        found = parse_signature(json.dumps(kind.signature)) if hasattr(kind, "signature") else None
        signature = reconcile(declared, found, names_made_up=False)
    except (SignatureError, TypeError) as error:
        raise unloadable(f"{path.name}/{FILE}: the signature of class Model: {error}") from None
    try:
        model = kind()
        model.load(path)
    except MemoryError as error:
        raise unloadable(f"{path.name}/{FILE}: not enough memory to load it", permanent=False) from error
    except (Exception, SystemExit) as error:
        raise _failed(path, error) from error
    return PythonModel(path, model, signature)


def _class_in(folder: Path) -> Any:
    file = folder / FILE
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    assert spec is not None  # noqa: S101 - of a file that ends in .py there is one
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    # It may import modules that lie beside it; those that are installed come first.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(folder, error) from error
    kind = getattr(module, "Model", None)
    missing = [name for name in ("load", "predict") if not callable(getattr(kind, name, None))]
    if kind is None or missing:
        lacks = "no class Model" if kind is None else f"no method {' and no '.join(missing)} in class Model"
        raise unloadable(f"{folder.name}/{FILE} has {lacks}")
    return kind


def _failed(folder: Path, error: BaseException) -> LoadError:
    return unloadable(f"{folder.name}: its own code failed: {_told(folder, error)}")


def _told(folder: Path, error: BaseException) -> str:
    """Return the error with the line of the user's code in which it came up."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}: {what}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    if not frames:
        return what
    last = frames[-1]
    return f"{Path(last.filename).relative_to(folder)}, line {last.lineno}, in {last.name}: {what}"


def _tensor(name: str, value: Any) -> Tensor:
    array: Array = np.asarray(value)
    if array.dtype.kind in "US":
        texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.flat]
        array = np.array(texts, object).reshape(array.shape)
    try:
        datatype = datatype_of(array.dtype)
    except KeyError:
        raise UnservableError(f"{name} is of {array.dtype}, which cannot be sent") from None
    if datatype is Datatype.BYTES and not all(isinstance(item, bytes) for item in array.flat):
        raise UnservableError(f"{name} holds Python objects that are no texts")
    return Tensor(name, datatype, np.ascontiguousarray(array) if array.ndim else array)
