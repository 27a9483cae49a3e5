"""Attributions of a model's answer to its inputs, by Captum.

Integrated gradients run the model with gradients, which is more than serving does: see `docs/inside.md` for which
formats can. Occlusion and feature ablation run it as requests do.
Sources: Captum's API reference; Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", 2017.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.core.explaining import (
    FLOATS,
    Explanation,
    Method,
    Options,
    baselines,
    classes,
    cost,
    explained,
    windows,
)
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.engine.datatypes import as_array, as_torch
from pilothouse_runtime.engine.failures import first_cause
from pilothouse_runtime.engine.likeness import copies, difference
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.results import named_tensors

Check = Callable[[], None]
Tensors = tuple[torch.Tensor, ...]


def attribute(
    model: LoadedModel, inputs: Sequence[Tensor], options: Options, batch_rows: int, check: Check
) -> Explanation:
    """Explain what a model answers to these inputs, which are in its order and fit its signature.

    Args:
        batch_rows: the most rows that the model may be run with at once; never fewer than the request has.
        check: is called before each run, and may raise to end it all.
    Raises:
        RequestError: what is asked for does not go with the model, or with these inputs.
    """
    floats = explained(inputs)
    rows = floats[0].array.shape[0]
    cost(options, floats)
    based = baselines(options, floats)
    check()
    scores = _answer(model, inputs, options, rows)
    target = classes(options, scores.array, scores.name)
    if options.method is Method.INTEGRATED_GRADIENTS:
        run: _Runs = _WithGradients(model, inputs, scores.name, check)
    else:
        run = _Runs(model, inputs, scores.name, check)
    try:
        found, delta = _captum(
            run, options, floats, based, _selected(target, scores), max(1, batch_rows // rows)
        )
    except RequestError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RequestError(Code.INTERNAL, "the model ran out of memory on this explanation") from error
    except RuntimeError as error:
        if options.method is not Method.INTEGRATED_GRADIENTS:
            raise
        # What autograd says where an operator has no derivative, or an input no part in the answer.
        raise _no_gradients(model, first_cause(error)) from error
    attributions = tuple(_named(tensor, value) for tensor, value in zip(floats, found, strict=True))
    return Explanation(options.method, scores.name, target, attributions, delta)


def _answer(model: LoadedModel, inputs: Sequence[Tensor], options: Options, rows: int) -> Tensor:
    """Return the output to explain, [rows, ...]."""
    outputs = copies(model.run(copies(inputs)))
    if flaw := difference(model.run(copies(inputs)), outputs):
        raise invalid(
            f"the model answers the same inputs otherwise the second time, which nothing explains: {flaw}"
        )
    names = ", ".join(output.name for output in outputs)
    if options.output is None and len(outputs) != 1:
        raise invalid(f"parameters.output: must say which output is explained: {names}")
    chosen = [output for output in outputs if options.output in (None, output.name)]
    if not chosen:
        raise invalid(f"parameters.output: the model has no output {options.output!r}; it has {names}")
    output = chosen[0]
    if output.datatype not in FLOATS:
        raise invalid(
            f"parameters.output: {output.name!r} is {output.datatype}; only floating point can be explained"
        )
    if output.array.shape[:1] != (rows,):
        raise invalid(
            f"output {output.name!r} has the shape {list(output.array.shape)} for {rows} rows: only what is answered"
            " row by row can be explained"
        )
    return output


def _selected(target: tuple[int, ...], scores: Tensor) -> Any:
    """Return the target as Captum wants it."""
    if not target:
        return None
    return torch.tensor(target) if scores.array.ndim == 2 else target


class _Runs:
    """The model as Captum calls it: on its floating-point inputs, then the others, with rows of several variants."""

    device = torch.device("cpu")  # where Captum works: requests, too, are on the host when they come

    def __init__(self, model: LoadedModel, inputs: Sequence[Tensor], output: str, check: Check) -> None:
        self._model = model
        self._inputs = inputs
        self._output = output
        self._check = check

    def others(self) -> Tensors:
        """Return the inputs that are kept as they are."""
        kept = [tensor for tensor in self._inputs if tensor.datatype not in FLOATS]
        return tuple(as_torch(tensor).to(self.device) for tensor in kept)

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the output, [rows, ...]."""
        self._check()
        count = sum(tensor.datatype in FLOATS for tensor in self._inputs)
        floats, others = iter(tensors[:count]), iter(tensors[count:])
        return self._run([next(floats if t.datatype in FLOATS else others) for t in self._inputs])

    def _run(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        given = [
            Tensor(t.name, t.datatype, as_array(value))
            for t, value in zip(self._inputs, tensors, strict=True)
        ]
        return as_torch(next(output for output in self._model.run(given) if output.name == self._output))


class _WithGradients(_Runs):
    """The same by torch, on the model's device."""

    def __init__(self, model: LoadedModel, inputs: Sequence[Tensor], output: str, check: Check) -> None:
        super().__init__(model, inputs, output, check)
        self._call: Any = getattr(model, "call", None)
        if self._call is None:
            raise _no_gradients(model, "it is not run by torch")
        self._names = [spec.name for spec in model.signature.outputs] if model.signature else []
        self.device = torch.device(str(model.device))

    def _run(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        try:
            made = dict(zip(*named_tensors(self._call(tensors), self._names), strict=True))[self._output]
        except RequestError:
            raise
        except Exception as error:
            raise _no_gradients(self._model, first_cause(error)) from error
        if not made.requires_grad and any(tensor.requires_grad for tensor in tensors):
            raise _no_gradients(
                self._model, f"its output {self._output!r} does not depend on its inputs by gradients"
            )
        return made


def _no_gradients(model: LoadedModel, cause: str) -> RequestError:
    return invalid(
        f"{Method.INTEGRATED_GRADIENTS} needs gradients, and this model ({model.format}) gives none: {cause}; use"
        f" {Method.OCCLUSION} or {Method.FEATURE_ABLATION}"
    )


def _captum(
    run: _Runs, options: Options, floats: Sequence[Tensor], based: Sequence[Any], target: Any, variants: int
) -> tuple[Tensors, tuple[float, ...] | None]:
    """Return the attributions, and the convergence delta where the method has one.

    Args:
        variants: of the inputs, that are run as one.
    """
    captum = _imported()
    device = run.device
    given = tuple(as_torch(tensor).to(device) for tensor in copies(floats))
    common: dict[str, Any] = {
        "baselines": tuple(
            as_torch(Tensor(tensor.name, tensor.datatype, array)).to(device)
            for tensor, array in zip(floats, based, strict=True)
        ),
        "target": target,
        "additional_forward_args": run.others() or None,
    }
    if options.method is Method.INTEGRATED_GRADIENTS:
        rows = variants * len(given[0])
        found, delta = captum.IntegratedGradients(run).attribute(
            given, n_steps=options.steps, internal_batch_size=rows, return_convergence_delta=True, **common
        )
        return found, tuple(delta.double().tolist())
    common["perturbations_per_eval"] = variants
    if options.method is Method.FEATURE_ABLATION:
        return captum.FeatureAblation(run).attribute(given, **common), None
    moved = windows(options, floats)
    common["sliding_window_shapes"] = tuple(window for window, _ in moved)
    return captum.Occlusion(run).attribute(
        given, strides=tuple(strides for _, strides in moved), **common
    ), None


def _imported() -> Any:
    """Return captum.attr, which takes a second to import, since it imports all that it could draw with."""
    # Else matplotlib looks for a home, and complains in the log that a pod has none.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir(), "matplotlib")))
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        from captum import attr  # type: ignore[import-untyped] # Captum's own
    except ImportError as error:
        raise RequestError(Code.NOT_FOUND, f"this image has no Captum, which explains: {error}") from error
    return attr


def _named(tensor: Tensor, value: torch.Tensor) -> Tensor:
    datatype = Datatype.FP64 if tensor.datatype is Datatype.FP64 else Datatype.FP32
    array = value.detach().double().cpu().numpy().astype(datatype.dtype)
    return Tensor(tensor.name, datatype, np.ascontiguousarray(array).reshape(tensor.array.shape))
