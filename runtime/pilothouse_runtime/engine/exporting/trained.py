"""A trained model as its own process has it: the names of its arguments, and its answers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch._dynamo import OptimizedModule

from pilothouse_runtime.core.errors import PackError, RequestError
from pilothouse_runtime.core.tensors import Array, Tensor, datatype_of
from pilothouse_runtime.engine.datatypes import as_array, as_torch, datatype_of_torch
from pilothouse_runtime.engine.failures import UnservableError, first_cause
from pilothouse_runtime.engine.results import are_positions, name_leaves

SEED: Final = 20240229
_SCRIPTED: Final = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
_NAMELESS: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Trained:
    """A module, or a function of tensors.

    Args:
        model: as its user has it. While it is asked, a module is in evaluation mode; then it is as it was.
        outputs: names for outputs that have a position only; none: output_0 and so on.
    Raises:
        PackError: it cannot be called, or is not on the CPU.
    """

    def __init__(self, model: Any, outputs: Sequence[str] = ()) -> None:
        if not callable(model):
            raise PackError(f"model: must be a module or a function, and is a {type(model).__name__}")
        if inspect.isclass(model):
            raise PackError(f"model: is the class {model.__name__}; give an object of it, {model.__name__}()")
        if any(base.__module__.startswith("keras.") for base in type(model).__mro__):
            raise PackError(
                "model: is a Keras model; save it with model.save('model.keras'), and give that file"
            )
        self.model = model = _not_compiled(model)
        self._outputs = tuple(outputs)
        self.module = _module_of(model)
        if self.module is not None and any(
            tensor.device.type != "cpu" for tensor in self._tensors(self.module)
        ):
            raise PackError("model: is not on the CPU; give model.cpu(), it is served on whatever there is")

    @property
    def is_scripted(self) -> bool:
        """Whether it is TorchScript already."""
        return isinstance(self.model, _SCRIPTED)

    @staticmethod
    def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
        yield from module.parameters()
        yield from module.buffers()

    def named(self, inputs: Mapping[str, Any] | Sequence[Any] | Any) -> dict[str, Array]:
        """Return inputs as arrays by the names of the model's arguments, in their order.

        Args:
            inputs: arrays or tensors by name; or in the order of the arguments; or one alone.
        Raises:
            PackError: names the input and what does not fit.
        """
        names, any_name = self._arguments()
        inputs = by_name(inputs, names)
        unknown = [name for name in inputs if name not in names]
        if unknown and not any_name:
            raise PackError(
                f"example_inputs: {', '.join(map(repr, unknown))} is no argument of the model, which takes"
                f" {', '.join(names) or 'none'}"
            )
        if not inputs:
            raise PackError("example_inputs: must hold an array for each argument that the model needs")
        ordered = [name for name in names if name in inputs] + unknown
        return as_arrays({name: inputs[name] for name in ordered})

    def _arguments(self) -> tuple[list[str], bool]:
        """Return the names of the arguments, and whether others are taken too."""
        if isinstance(self.model, torch.jit.ScriptFunction):
            function: Any = self.model
            return [argument.name for argument in function.schema.arguments], False
        if isinstance(self.model, torch.jit.ScriptModule):
            schema = self.model.forward.schema  # type: ignore[attr-defined] # of a ScriptMethod
            return [argument.name for argument in schema.arguments[1:]], False
        forward = self.model.forward if isinstance(self.model, nn.Module) else self.model
        parameters = inspect.signature(forward).parameters.values()
        names = [parameter.name for parameter in parameters if parameter.kind not in _NAMELESS]
        return names, any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)

    def answers(self, inputs: Mapping[str, Array], seed: int = SEED) -> dict[str, Array]:
        """Return the model's outputs by name; random numbers begin at `seed`, and go on afterwards where they were.

        Raises:
            PackError: it fails on these inputs, or returns what cannot be served.
        """
        tensors = tensors_of(inputs)
        try:
            with self.asked(), torch.random.fork_rng(devices=[]), torch.inference_mode():
                torch.manual_seed(seed)
                results = self.results(self.model(**tensors))
        except PackError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in inputs.items())
            hint = "; are 64 bits meant? If not: array.astype(numpy.float32)" if _is_wide(inputs) else ""
            raise PackError(
                f"model: fails on {shapes}: {type(error).__name__}: {first_cause(error)}{hint}"
            ) from error
        try:
            for name, tensor in results.items():
                datatype_of_torch(name, tensor.dtype)
        except UnservableError as error:
            raise PackError(f"model: {error}") from None
        return {name: np.array(as_array(tensor)) for name, tensor in results.items()}

    def results(self, returned: Any) -> dict[str, torch.Tensor]:
        """Return what the model returned by the names under which it is served.

        Raises:
            PackError: something in it is no tensor, or there are other outputs than names for them.
        """
        leaves = {name: leaf for name, leaf in name_leaves(returned) if leaf is not None}
        for name, leaf in leaves.items():
            if not isinstance(leaf, torch.Tensor):
                raise PackError(
                    f"model: returns {name} of type {type(leaf).__name__}; a served model returns tensors, alone or"
                    " in a tuple, list or dict"
                )
        if not leaves:
            raise PackError("model: returns no tensor")
        if not self._outputs:
            return leaves
        if not are_positions(leaves) and list(leaves) != list(self._outputs):
            raise PackError(f"outputs: the model names its outputs itself: {', '.join(leaves)}")
        if len(leaves) != len(self._outputs):
            raise PackError(f"outputs: are {len(self._outputs)} names, the model returns {len(leaves)}")
        return dict(zip(self._outputs, leaves.values(), strict=True))

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Keep the module in evaluation mode while the block runs."""
        modes = [(part, part.training) for part in self.module.modules()] if self.module is not None else []
        try:
            if self.module is not None:
                self.module.eval()
            yield
        finally:
            for part, training in modes:
                part.training = training

    def as_program(self, names: Sequence[str]) -> nn.Module:
        """Return a module that takes these arguments and returns a flat dict of its outputs by name."""

        def forward(**tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            return self.results(self.model(**tensors))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # read by inspect and so by torch
            [inspect.Parameter(name, kind) for name in names]
        )
        program = nn.Module()
        if self.module is not None:
            program.model = self.module
        program.forward = forward
        return program.train(self.module is not None and self.module.training)


def tensors_of(inputs: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Return copies of arrays as tensors."""
    return {
        name: as_torch(Tensor(name, datatype_of(array.dtype), array.copy())) for name, array in inputs.items()
    }


def _not_compiled(model: Any) -> Any:
    """Return what torch.compile was given: what it makes of that is for this process."""
    if isinstance(model, OptimizedModule):
        return model._orig_mod
    return getattr(model, "_torchdynamo_orig_callable", model)


def _module_of(model: Any) -> nn.Module | None:
    """Return the module that holds the weights: the model itself, or that of which it is a method.

    A module may well be false: one that has a length, of 0.
    """
    owner = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def by_name(inputs: Any, names: Sequence[str], argument: str = "example_inputs") -> Mapping[str, Any]:
    """Return inputs that were given by name, in the order of `names`, or one alone, by name.

    Raises:
        PackError: they are more than names.
    """
    if isinstance(inputs, Mapping):
        return inputs
    given = inputs if isinstance(inputs, tuple | list) else (inputs,)
    if len(given) > len(names):
        takes = ", ".join(names) or "no named arguments: give the inputs by name"
        raise PackError(f"{argument}: are {len(given)}, but the model takes {takes}")
    return dict(zip(names, given, strict=False))


def as_arrays(inputs: Mapping[str, Any], argument: str = "example_inputs") -> dict[str, Array]:
    """Return arrays or tensors as arrays that the protocol carries.

    Raises:
        PackError: names the input and what it is.
    """
    return {name: _array(f"{argument}: {name!r}", value) for name, value in inputs.items()}


def _array(what: str, value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        try:
            datatype_of_torch(what, value.dtype)
        except UnservableError as error:
            raise PackError(str(error)) from None
        return as_array(value.detach().cpu())
    if not isinstance(value, np.ndarray):
        raise PackError(f"{what} is a {type(value).__name__}; give a numpy array or a tensor")
    array = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False)).reshape(value.shape)
    try:
        as_torch(Tensor(what, datatype_of(array.dtype), array))
    except (KeyError, RequestError):
        raise PackError(
            f"{what} is of type {value.dtype}; use bool, integers or floats of up to 64 bits"
        ) from None
    return array


def _is_wide(inputs: Mapping[str, Array]) -> bool:
    return any(array.dtype == np.float64 for array in inputs.values())
