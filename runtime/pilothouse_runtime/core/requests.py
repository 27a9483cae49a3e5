"""Inference requests and answers, free of any wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse_runtime.core.errors import invalid
from pilothouse_runtime.core.tensors import Signature, Tensor, TensorSpec


@dataclass(slots=True)
class RequestedOutput:
    """One output that a request asks for; `binary` says how its data is to be sent."""

    name: str
    binary: bool


@dataclass(slots=True)
class InferRequest:
    """One request: its tensors in the order sent, and which outputs it wants (none named: all).

    `timeout` is the seconds for which its client waits, or None where it did not say.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    id: str | None = None
    binary_outputs: bool = False  # how outputs are sent that the request does not name
    timeout: float | None = None


@dataclass(slots=True)
class OutputTensor:
    """One output of an answer and how to send it."""

    tensor: Tensor
    binary: bool


@dataclass(slots=True)
class InferResponse:
    """The answer to one request."""

    model_name: str
    model_version: str
    outputs: tuple[OutputTensor, ...]
    id: str | None = None


def arrange_inputs(inputs: Sequence[Tensor], signature: Signature | None) -> tuple[Tensor, ...]:
    """Return the inputs in the model's order; without a signature they stay as they were sent.

    Raises:
        RequestError: an input is missing, unknown or sent twice, or its datatype or shape does not fit.
    """
    if signature is not None and len(inputs) == len(signature.inputs):
        for tensor, spec in zip(inputs, signature.inputs, strict=True):
            if tensor.name != spec.name:
                break
            _check(tensor, spec)
        else:
            return tuple(inputs)  # they are in order already
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) != len(inputs):
        raise invalid("inputs: the same name occurs more than once; send each input once")
    if signature is None:
        return tuple(inputs)
    wanted = {spec.name: spec for spec in signature.inputs}
    for name in given:
        if name not in wanted:
            raise invalid(f"inputs: the model has no input {name!r}; it takes {_listed(signature.inputs)}")
    for name, spec in wanted.items():
        if name not in given:
            raise invalid(f"inputs: {name!r} is missing; the model takes {_listed(signature.inputs)}")
        _check(given[name], spec)
    return tuple(given[spec.name] for spec in signature.inputs)


def _check(tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.datatype is not spec.datatype:
        raise invalid(f"input {spec.name!r}: expected datatype {spec.datatype}, got {tensor.datatype}")
    if not spec.accepts(tensor.array.shape):
        raise invalid(
            f"input {spec.name!r}: expected shape {list(spec.shape)}, got {list(tensor.array.shape)}"
            " (-1 stands for any size)"
        )


def choose_outputs(request: InferRequest, outputs: Sequence[Tensor]) -> tuple[OutputTensor, ...]:
    """Return the outputs that the request asks for, in its order; all of them where it names none.

    Raises:
        RequestError: the request asks for an output that the model does not have.
    """
    if not request.outputs:
        binary = request.binary_outputs
        return tuple([OutputTensor(tensor, binary) for tensor in outputs])
    made = {tensor.name: tensor for tensor in outputs}
    check_outputs(request, made)
    return tuple(OutputTensor(made[wanted.name], wanted.binary) for wanted in request.outputs)


def check_outputs(request: InferRequest, names: Sequence[str] | dict[str, Tensor]) -> None:
    """Check that the requested outputs are among `names`; before a run, so that a wrong name costs none.

    Raises:
        RequestError: an output is unknown or asked for twice.
    """
    seen = set()
    for wanted in request.outputs:
        if wanted.name not in names:
            raise invalid(f"outputs: the model has no output {wanted.name!r}; it gives {', '.join(names)}")
        if wanted.name in seen:
            raise invalid(f"outputs: {wanted.name!r} is asked for more than once")
        seen.add(wanted.name)


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "no inputs"
