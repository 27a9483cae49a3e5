"""The ONNX backend: graphs run by ONNX Runtime, without torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import onnxruntime

from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.core.signature import SignatureError, reconcile
from pilothouse_runtime.core.tensors import ANY, Array, Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.failures import UnservableError, first_cause, no_gpu, unloadable
from pilothouse_runtime.engine.model import PLAIN, LoadedModel, Options
from pilothouse_runtime.engine.onnx_file import BrokenFileError, external_files
from pilothouse_runtime.engine.threads import cpus_to_use

_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_SILENT: Final = 4  # what goes wrong is in exceptions; lines on stderr would be no JSON
_DATATYPES: Final = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}


class OnnxModel(LoadedModel):
    """A session of ONNX Runtime; inputs and outputs go by name."""

    format = Format.ONNX
    platform = "onnxruntime_onnx"
    misfit: ClassVar = re.compile(
        r"INVALID_ARGUMENT|[Dd]imension|broadcast|reshape|out of (data )?bounds|ShapeInferenceError|must match"
    )

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        names: Sequence[tuple[str, Datatype]],
        device: str,
        weight_bytes: int,
    ) -> None:
        super().__init__(signature, device, weight_bytes)
        self._session = session
        self._names = [name for name, _ in names]
        self._outputs = [
            (spec.name, datatype) for spec, (_, datatype) in zip(signature.outputs or (), names, strict=False)
        ] or list(names)

    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `LoadedModel`."""
        given = {tensor.name: _to_onnx(tensor) for tensor in inputs}
        arrays = self._session.run(self._names, given)
        return [
            Tensor(name, datatype, _from_onnx(array, datatype))
            for (name, datatype), array in zip(self._outputs, arrays, strict=True)
        ]


def load(path: Path, device: Device, declared: Signature | None, options: Options = PLAIN) -> OnnxModel:
    """Load a graph, with the files beside it that hold its tensors.

    Args:
        device: AUTO takes a GPU where ONNX Runtime can use one.
        declared: the user's signature, if any; the graph has its own.
    Raises:
        LoadError: ModelLoadFailed; InvalidConfiguration where there is no GPU for `device` cuda.
    """
    size = path.stat().st_size + sum(_checked_external(path))
    providers = _providers(device)
    try:
        session = onnxruntime.InferenceSession(str(path), _session_options(), providers)
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(f"{path.name}: ONNX Runtime cannot load this model: {first_cause(error)}") from error
    on_gpu = session.get_providers()[0] == _CUDA
    if device is Device.CUDA and not on_gpu:
        raise no_gpu()
    inputs, outputs = (
        [_spec(path, kind, node) for node in nodes]
        for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs()))
    )
    # Without a shape in the file, an output's is told as that of a scalar: what is not known is not promised.
    known = all(spec.shape for spec in outputs)
    found = Signature(tuple(inputs), tuple(outputs) if known else ())
    try:
        signature = reconcile(declared, found, names_made_up=False)
    except SignatureError as error:
        raise unloadable(f"{path.name}: {options.declared_by} contradict the file: {error}") from None
    assert signature is not None  # noqa: S101 - one of the two is
    names = [(spec.name, spec.datatype) for spec in outputs]
    return OnnxModel(session, signature, names, "cuda" if on_gpu else "cpu", size)


def _session_options() -> onnxruntime.SessionOptions:
    onnxruntime.set_default_logger_severity(_SILENT)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = cpus_to_use()
    options.inter_op_num_threads = 1
    # Threads that spin take CPUs from others of the node (see loader.py).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: Device) -> list[str]:
    has_gpu = _CUDA in onnxruntime.get_available_providers()
    if device is Device.CUDA and not has_gpu:
        raise no_gpu()
    return [_CUDA, _CPU] if has_gpu and device is not Device.CPU else [_CPU]


def _checked_external(path: Path) -> list[int]:
    """Return the sizes of the files that hold tensors, after checking that all are beside the model."""
    try:
        names = sorted(external_files(path))
    except BrokenFileError as error:
        raise unloadable(f"{path.name} is a broken ONNX file: {error}") from None
    sizes = []
    for name in names:
        file = path.parent / name
        if name.startswith("/") or "\\" in name or ".." in Path(name).parts:
            raise unloadable(f"{path.name}: its tensors are said to be in {name!r}, outside of its folder")
        if file.is_symlink() or not file.resolve().is_relative_to(path.parent.resolve()):
            raise unloadable(f"{path.name}: {name!r}, with its tensors, is a symbolic link")
        if not file.is_file():
            raise unloadable(
                f"{path.name}: its tensors are in {name!r}, which is missing; let model.uri name the folder of both"
            )
        sizes.append(file.stat().st_size)
    return sizes


def _spec(path: Path, kind: str, node: Any) -> TensorSpec:
    if node.type not in _DATATYPES:
        advice = "; convert the model without ZipMap (zipmap=False)" if "map(" in node.type else ""
        raise unloadable(f"{path.name}: {kind} {node.name} is a {node.type}, which cannot be sent{advice}")
    shape = tuple(size if isinstance(size, int) and size >= 0 else ANY for size in node.shape)
    return TensorSpec(node.name, _DATATYPES[node.type], shape)


def _to_onnx(tensor: Tensor) -> Array:
    if tensor.datatype is not Datatype.BYTES:
        return tensor.array
    try:
        texts = [value.decode() for value in tensor.array.flat]
    except UnicodeDecodeError:
        raise invalid(f"input {tensor.name!r}: texts must be UTF-8") from None
    return np.array(texts, object).reshape(tensor.array.shape)


def _from_onnx(array: Any, datatype: Datatype) -> Array:
    if not isinstance(array, np.ndarray):
        raise UnservableError(f"it is a {type(array).__name__}, not a tensor")
    if datatype is Datatype.BYTES:
        texts = [str(value).encode() for value in array.flat]
        return np.array(texts, object).reshape(array.shape)
    return np.ascontiguousarray(array) if array.ndim else array
