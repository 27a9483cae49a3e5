"""The Keras backend: .keras files of Keras 3, whichever of its backends they were trained on, run by torch."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch

# Read when Keras is imported. Its home may set another backend, or another order of an image's dimensions; and it would
# be made, and written to, where it is missing.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = os.devnull

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.signature import SignatureError, reconcile
from pilothouse_runtime.core.tensors import ANY, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.backends import keras3_check
from pilothouse_runtime.engine.backends.program import plain_function
from pilothouse_runtime.engine.datatypes import datatype_of_torch
from pilothouse_runtime.engine.failures import UnservableError, first_cause, unloadable
from pilothouse_runtime.engine.likeness import copies, difference
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.torch_model import TorchModel

log = logging.getLogger(__name__)

_ROWS: Final = 3  # a size that torch.export tells apart from other sizes: not 0, 1 or 2
_LONG: Final = (
    0.2  # CPU seconds of two runs: exporting takes a hundred times as long, and a start waits for it
)
_WORDS: Final = 400  # characters of Keras's errors that are told: they hold whole configurations


class KerasModel(TorchModel):
    """A model of Keras; inputs and outputs are the leaves of its trees, in Keras's own order.

    Until it has settled, Keras walks its layers anew in each call.
    """

    format = Format.KERAS
    platform = "keras_torch"
    misfit: ClassVar = re.compile(
        TorchModel.misfit.pattern + "|Invalid input shape|is incompatible with the layer", re.DOTALL
    )

    def __init__(self, model: Any, signature: Signature, device: torch.device) -> None:
        super().__init__(signature, device, [variable.value for variable in model.variables])
        self._layers = _Layers(model)
        self._forward: Callable[..., Any] = self._layers

    @property
    def is_exported(self) -> bool:
        """Whether a graph of the model runs in place of Keras's layers."""
        return self._forward is not self._layers

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Return the leaves of the model's answer."""
        return self._forward(*inputs)

    def settle(self, inputs: Sequence[Tensor]) -> None:
        """Run an exported graph from now on, if its answers are the same for one row and for several.

        Keras takes longer to find out what to do in each layer than a small layer takes.
        """
        if self.signature is None or any(ANY in spec.shape[1:] for spec in self.signature.inputs):
            return  # a graph that was made for one length may be wrong for another, and nobody would see it
        several = [
            _repeated(tensor, spec) for tensor, spec in zip(inputs, self.signature.inputs, strict=True)
        ]
        try:
            started = time.process_time()  # others may use the CPUs too
            want = [copies(self.run(copies(some))) for some in (inputs, several)]
            took = time.process_time() - started
            # One that has a memory, or throws dice, cannot be compared, and is left as it is.
            if took > _LONG or self._flaw(inputs, several, want):
                return
            self._forward = _exported(self._layers, self._placement.put(copies(several)), self.signature)
            flaw = self._flaw(inputs, several, want)
        except Exception as error:  # whatever torch.export cannot do, the model itself has run
            flaw = first_cause(error)
        if flaw:
            log.info("the model is run by Keras: exported, it would fail or answer otherwise: %s", flaw)
            self._forward = self._layers

    def _flaw(self, inputs: Sequence[Tensor], several: Sequence[Tensor], want: Sequence[list[Tensor]]) -> str:
        flaws = (difference(self.run(copies(x)), y) for x, y in zip((inputs, several), want, strict=True))
        return next(filter(None, flaws), "")


class _Layers(torch.nn.Module):
    """A model of Keras as a function of its flat inputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        self._tree, _ = _trees(model)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the leaves of the answer."""
        import keras

        inputs = keras.tree.pack_sequence_as(self._tree, tensors)
        return tuple(keras.tree.flatten(self._model(inputs, training=False)))


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> KerasModel:
    """Load an archive that `formats.detect` found to be one of Keras.

    Args:
        declared: the user's signature, if any; output names that only say which layer they come from may be changed.
    Raises:
        LoadError: ModelLoadFailed.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model, found, named = _built(path, device)
        weights = keras3_check.checked_weights(path, Path(folder))
        with _told_of(path):
            model.load_weights(weights)
    for warning in warned:
        if "freshly-initialized" in str(warning.message):
            raise unloadable(f"{path.name} lacks weights: {_told(warning.message)}")
    try:
        signature = reconcile(declared, found, names_made_up=not named) or found
    except SignatureError as error:
        raise unloadable(f"{path.name}: {options.declared_by} contradict the file: {error}") from None
    return KerasModel(model, signature, device)


def _built(path: Path, device: torch.device) -> tuple[Any, Signature, bool]:
    """Return the model without its weights, its signature, and whether its outputs have names by its author."""
    config = keras3_check.checked_config(path)
    os.environ["KERAS_TORCH_DEVICE"] = device.type  # read when Keras is imported, here for the first time
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope  # as in keras.saving.load_model

    keras.config.disable_traceback_filtering()  # which also takes time in every call
    with _told_of(path), ObjectSharingScope():
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise unloadable(f"{path.name}: its configuration is of a {type(model).__name__}, not of a model")
    try:
        return model, *_signature(model)
    except UnservableError as error:
        raise unloadable(f"{path.name}: {error}") from None


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Put what Keras says into the words of a failure of this file."""
    import keras

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(f"{path.name}: Keras {keras.__version__} cannot load it: {_told(error)}") from error


def _told(error: BaseException | str) -> str:
    told = " ".join(str(error).split()) or type(error).__name__
    return told if len(told) <= _WORDS else told[:_WORDS] + "…"


def _trees(model: Any) -> tuple[Any, Any]:
    """Return what a model takes and gives: symbolic tensors in lists, tuples and dicts.

    Raises:
        UnservableError: that is not fixed.
    """
    import keras

    is_chain = isinstance(model, keras.Sequential)
    try:
        return (model.inputs[0], model.outputs[0]) if is_chain else (model.input, model.output)
    except (AttributeError, ValueError):
        raise UnservableError(
            "the model has no fixed inputs: begin it with keras.Input, or call it once before it is saved"
        ) from None


def _signature(model: Any) -> tuple[Signature, bool]:
    """Return a model's signature, and whether its outputs have names that its author gave them.

    Raises:
        UnservableError: it has none that can be served.
    """
    import keras

    takes, gives = _trees(model)
    inputs, outputs = keras.tree.flatten(takes), keras.tree.flatten(gives)
    keys = _keys(gives)
    signature = Signature(
        _specs("input", _keys(takes) or [leaf.name for leaf in inputs], inputs),
        _specs("output", keys or [_layer_of(leaf) for leaf in outputs], outputs),
    )
    return signature, bool(keys)


def _keys(tree: Any) -> list[str]:
    """Return the keys of a plain dict in the order of its leaves, or nothing for another tree."""
    import keras

    if not isinstance(tree, dict) or len(keras.tree.flatten(tree)) != len(tree):
        return []
    return [str(key) for key in keras.tree.flatten({key: key for key in tree})]


def _layer_of(output: Any) -> str:
    """Return the name of the layer that an output comes from."""
    return str(output._keras_history.operation.name)


def _specs(kind: str, names: Iterable[str], leaves: Iterable[Any]) -> tuple[TensorSpec, ...]:
    taken: dict[str, int] = {}
    specs = []
    for name, leaf in zip(names, leaves, strict=True):
        count = taken[name] = taken.get(name, -1) + 1
        unique = f"{name}_{count}" if count else name
        dtype = getattr(torch, str(leaf.dtype), None)
        if not isinstance(dtype, torch.dtype):
            raise UnservableError(f"{kind} {name!r} is of {leaf.dtype}, which torch has not")
        datatype = datatype_of_torch(f"{kind} {name!r}", dtype)
        specs.append(
            TensorSpec(unique, datatype, tuple(ANY if size is None else int(size) for size in leaf.shape))
        )
    return tuple(specs)


def _repeated(tensor: Tensor, spec: TensorSpec) -> Tensor:
    """Return an input with more rows, where it may have more."""
    if spec.shape[:1] != (ANY,):
        return tensor
    rows = np.concatenate([np.roll(tensor.array, shift) for shift in range(_ROWS)])
    return Tensor(tensor.name, tensor.datatype, rows)


def _exported(
    layers: _Layers, inputs: Sequence[torch.Tensor], signature: Signature
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return the model as a plain function of its flat inputs, any number of rows at once."""
    rows = tuple(
        {0: torch.export.Dim.DYNAMIC} if spec.shape[:1] == (ANY,) else None for spec in signature.inputs
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(layers.eval(), tuple(inputs), dynamic_shapes=(rows,), strict=False)
        return plain_function(program.module(check_guards=False), {})
