"""The TensorFlow backend: SavedModel folders, run by their signature serving_default on arrays.

TensorFlow is in an image of its own (docs/images.md).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.core.signature import SignatureError, reconcile
from pilothouse_runtime.core.tensors import ANY, Array, Datatype, Signature, Tensor, TensorSpec, datatype_of
from pilothouse_runtime.engine.backends import savedmodel_check
from pilothouse_runtime.engine.failures import UnservableError, first_cause, no_gpu, unloadable
from pilothouse_runtime.engine.model import PLAIN, LoadedModel, Options
from pilothouse_runtime.engine.threads import cpus_to_use

log = logging.getLogger(__name__)

_SIGNATURE: Final = "serving_default"


class SavedModel(LoadedModel):
    """A function of TensorFlow with named inputs and outputs."""

    format = Format.TENSORFLOW
    platform = "tensorflow_savedmodel"
    misfit: ClassVar = re.compile(
        r"[Ii]ncompatible shapes|must be|[Ee]xpected|[Dd]imension|Matrix size|cannot be|not compatible|size mismatch",
        re.DOTALL,
    )

    def __init__(self, model: Any, signature: Signature, device: str) -> None:
        import tensorflow as tf

        self._function = model.signatures[_SIGNATURE]
        variables = self._function.variables
        super().__init__(
            signature, device, sum(item.dtype.size * item.shape.num_elements() for item in variables)
        )
        self._model = model  # whose variables and tables would be dropped
        self._constant = tf.constant
        self._dtypes = {
            spec.name: tf.string if spec.datatype is Datatype.BYTES else tf.as_dtype(spec.datatype.dtype)
            for spec in signature.inputs
        }
        self._names = tuple(spec.name for spec in signature.outputs)

    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `LoadedModel`."""
        import tensorflow as tf

        try:
            given = {
                tensor.name: self._constant(tensor.array, self._dtypes[tensor.name]) for tensor in inputs
            }
            answer = self._function(**given)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError from error
        return [_tensor(name, answer[name].numpy()) for name in self._names]


def load(path: Path, device: Device, declared: Signature | None, options: Options = PLAIN) -> SavedModel:
    """Load a folder that `formats.detect` found to be a SavedModel.

    Args:
        declared: the user's signature, if any; the model's own has names for everything.
    Raises:
        LoadError: ModelLoadFailed; InvalidConfiguration where it is to run on a GPU and there is none.
    """
    used = _start(device)
    savedmodel_check.check(path)
    import tensorflow as tf

    try:
        with tf.device("/CPU:0") if used == "cpu" else tf.device("/GPU:0"):
            model = tf.saved_model.load(str(path))
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(
            f"{path.name}: TensorFlow {tf.__version__} cannot load it: {first_cause(error)}"
        ) from error
    if _SIGNATURE not in model.signatures:
        raise unloadable(
            f"{path.name} has no signature {_SIGNATURE}, but {', '.join(model.signatures) or 'none'}: save it with"
            " tf.saved_model.save(..., signatures=...) or model.export"
        )
    try:
        found = _signature(model.signatures[_SIGNATURE])
        signature = reconcile(declared, found, names_made_up=False) or found
    except UnservableError as error:
        raise unloadable(f"{path.name}: {error}") from None
    except SignatureError as error:
        raise unloadable(f"{path.name}: {options.declared_by} contradict the file: {error}") from None
    return SavedModel(model, signature, used)


def _start(wanted: Device) -> str:
    """Import TensorFlow with this container's CPUs, and return what it is to run on, "cpu" or "cuda".

    Raises:
        LoadError: InvalidConfiguration; there is no GPU that TensorFlow can use.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # lines that are no JSON
    os.environ.setdefault("KERAS_HOME", os.devnull)  # Keras comes with it, and would write there
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if wanted is Device.CUDA and not gpus:
        raise no_gpu()
    used = "cuda" if gpus and wanted is not Device.CPU else "cpu"
    if not tf.config.threading.get_intra_op_parallelism_threads():  # not in this process yet
        tf.config.threading.set_intra_op_parallelism_threads(cpus_to_use())
        tf.config.threading.set_inter_op_parallelism_threads(cpus_to_use())
        for gpu in gpus:  # in place of all its memory at once
            tf.config.experimental.set_memory_growth(gpu, True)
    log.info("TensorFlow %s with %d threads", tf.__version__, cpus_to_use())
    return used


def _signature(function: Any) -> Signature:
    """Return the protocol's description of a concrete function.

    Raises:
        UnservableError: an input or an output cannot be carried.
    """
    _, inputs = function.structured_input_signature
    outputs = function.structured_outputs
    return Signature(_specs("input", inputs), _specs("output", outputs))


def _specs(kind: str, tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(f"{kind} {name!r}", name, tensors[name]) for name in sorted(tensors))


def _spec(told: str, name: str, tensor: Any) -> TensorSpec:
    shape = getattr(tensor, "shape", None)
    if shape is None or shape.rank is None:
        raise UnservableError(f"{told} is a {type(tensor).__name__} without a number of dimensions")
    try:
        dtype = np.dtype(tensor.dtype.as_numpy_dtype)
        datatype = Datatype.BYTES if tensor.dtype.name == "string" else datatype_of(dtype)
    except (KeyError, TypeError):
        raise UnservableError(
            f"{told} is {tensor.dtype.name}, which cannot be sent; cast it in the model"
        ) from None
    return TensorSpec(name, datatype, tuple(ANY if size is None else size for size in shape))


def _tensor(name: str, array: Array) -> Tensor:
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        return Tensor(name, Datatype.BYTES, array.astype(object))
    return Tensor(name, datatype_of(array.dtype), np.ascontiguousarray(array) if array.ndim else array)
