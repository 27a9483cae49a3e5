"""Writes a trained model by torch.export, or as TorchScript where torch.export does not take it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch._dynamo.exc import UserError
from torch.export import ExportedProgram

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.core.manifest import fields_of
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Array, Signature
from pilothouse_runtime.engine.backends.torchscript import SIGNATURE_FILE
from pilothouse_runtime.engine.exporting.saving import saved
from pilothouse_runtime.engine.exporting.trained import Trained, tensors_of
from pilothouse_runtime.engine.failures import first_cause

FILE_NAMES: Final = {
    Format.EXPORTED: "model.pt2",
    Format.AOTINDUCTOR: "model.pt2",
    Format.TORCHSCRIPT: "model.pt",
}
_AT: Final = re.compile(
    r'The following call raised this error:\s*File "([^"]+)", line (\d+), in \S+\s+(\S.*)'
)
_FIXED: Final = re.compile(
    r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)"
)
# A size that is free within limits only, such as the positions that a Transformer knows.
_FIX: Final = re.compile(r"(?P<name>\w+) = Dim\('\w+'(, min=(?P<min>\d+))?(, max=(?P<max>\d+))?\)")
# Of the least size a slice such as series[:, -44:] is the whole, and lies in memory otherwise: torch would have to
# write another program for it.
_NOT: Final = re.compile(
    r"Not all values of (?P<name>\w+) = .* satisfy the generated guard \S+ != (?P<size>\d+)\."
)
_LIMITS: Final = {"min": "least", "max": "most"}
_LONGEST: Final = 300  # characters of torch's words

Free = Mapping[str, Mapping[int, str]]  # of each input, the names of its free dimensions


@dataclass(frozen=True)
class Written:
    """The model's file.

    Attributes:
        refusal: why it is TorchScript though torch.export was tried first; "" where it was not.
        limits: of sizes that are free, in words.
        compiled_for: in words, where it is native code.
    """

    format: Format
    path: Path
    refusal: str = ""
    limits: tuple[str, ...] = ()
    compiled_for: str = ""


def write(
    trained: Trained,
    inputs: Mapping[str, Array],
    free: Free,
    signature: Signature,
    folder: Path,
    wanted: Format,
) -> Written:
    """Write the model into a folder.

    Args:
        inputs: examples by name, in the order of the arguments, with two rows or more.
        free: dimensions of the inputs that may have any size; those of one name have the same.
        signature: for TorchScript, which has none of its own.
        wanted: EXPORTED, TORCHSCRIPT, or AUTO for the first of them that takes the model; or AOTINDUCTOR.
    Raises:
        PackError: none of them does; says why.
        OSError: the disk does not take it.
    """
    if wanted is Format.AOTINDUCTOR:
        return _write_compiled(trained, inputs, free, folder / FILE_NAMES[Format.AOTINDUCTOR])
    refusal = "it is TorchScript already" if trained.is_scripted else ""
    if wanted is not Format.TORCHSCRIPT and not refusal:
        path = folder / FILE_NAMES[Format.EXPORTED]
        try:
            program, limits = _exported(trained, inputs, free)
            with _quiet(), saved(path) as file:
                torch.export.save(program, file)
            return Written(Format.EXPORTED, path, limits=_told(limits))
        except (PackError, OSError):  # a disk that is full is no reason to try another format
            raise
        except Exception as error:
            refusal = _reason(error)
    if wanted is Format.EXPORTED:
        raise PackError(f"model: torch.export does not take it: {refusal}")
    path = folder / FILE_NAMES[Format.TORCHSCRIPT]
    try:
        _write_torchscript(trained, signature, path)
    except OSError:
        raise
    except Exception as error:
        also = f"torch.export does not take it: {refusal}; " if refusal else ""
        raise PackError(
            f"model: {also}torch.jit.script does not take it: {_reason(error)}. Change what is named there, or"
            " export a part of the model that is without it (docs/packing.md)"
        ) from error
    return Written(Format.TORCHSCRIPT, path, "" if trained.is_scripted else refusal)


def _write_compiled(trained: Trained, inputs: Mapping[str, Array], free: Free, path: Path) -> Written:
    # torch's compiler takes seconds to import, which is for those who use it.
    from pilothouse_runtime.engine.exporting.compiling import check_compiler, compile_program

    check_compiler()
    if trained.is_scripted:
        raise PackError("compile: the model is TorchScript already, which torch.export does not take")
    try:
        program, limits = _exported(trained, inputs, free)
    except PackError:
        raise
    except Exception as error:
        raise PackError(
            f"compile: torch.export does not take the model: {_reason(error)}. Pack it without compiling"
        ) from error
    for name, limit in limits.items():
        if "min" in limit:
            raise PackError(
                f"compile: {name} must be at least {limit['min']} for this model, which native code would not look at;"
                " pack it without compiling"
            )
    try:
        with _quiet():
            needs = compile_program(program, path)
    except OSError:
        raise
    except Exception as error:
        raise PackError(
            f"compile: the model was exported, but is not compiled: {_reason(error)}. Pack it without compiling"
        ) from error
    return Written(Format.AOTINDUCTOR, path, limits=_told(limits), compiled_for=needs)


def _exported(
    trained: Trained, inputs: Mapping[str, Array], free: Free
) -> tuple[ExportedProgram, Mapping[str, Mapping[str, int]]]:
    """Export the model; return also the limits (min, max) of its free sizes by name."""
    tensors = tensors_of(inputs)
    limits: dict[str, dict[str, int]] = {name: {} for sizes in free.values() for name in sizes.values()}
    with trained.asked(), torch.random.fork_rng(devices=[]), _quiet():
        model = trained.as_program(list(tensors))
        while True:
            dims = {name: torch.export.Dim(name, **limit) for name, limit in limits.items()}
            shapes = {
                name: {axis: dims[dim] for axis, dim in free.get(name, {}).items()} or None
                for name in tensors
            }
            try:
                program = torch.export.export(model, (), tensors, dynamic_shapes=shapes)
                break
            except UserError as error:
                found = _limits(str(error)) or _without_least(str(error), limits)
                if not found or all(limits.get(name) == limit for name, limit in found.items()):
                    raise
                limits |= found
    return program, limits


def _told(limits: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Return in words the limits of free sizes."""
    return tuple(
        f"{name} is {' and '.join(f'at {_LIMITS[side]} {size}' for side, size in limit.items())}, as torch.export found"
        for name, limit in limits.items()
        if limit
    )


def _limits(text: str) -> dict[str, dict[str, int]]:
    """Return the limits of sizes by name that torch says an export needs, or {} where it needs anything else."""
    _, _, fixes = text.partition("Suggested fixes:\n")
    found = {}
    for line in fixes.partition("\n\n")[0].splitlines():
        fix = _FIX.fullmatch(line.strip())
        if not fix:
            return {}
        found[fix["name"]] = {side: int(fix[side]) for side in _LIMITS if fix[side]}
    return found


def _without_least(text: str, limits: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return new limits where torch says that an export holds for all sizes but the least, else {}."""
    return {
        name: {**limits[name], "min": int(excluded["size"]) + 1}
        for excluded in _NOT.finditer(text)
        if limits.get(name := excluded["name"], {}).get("min") == int(excluded["size"])
    }


def _write_torchscript(trained: Trained, signature: Signature, path: Path) -> None:
    extra = {
        SIGNATURE_FILE: json.dumps(
            {
                "inputs": [fields_of(spec) for spec in signature.inputs],
                "outputs": [fields_of(spec) for spec in signature.outputs],
            }
        )
    }
    with trained.asked(), _quiet():
        scripted: Any = trained.model if trained.is_scripted else torch.jit.script(trained.model)
        if not isinstance(trained.model, nn.Module | torch.jit.ScriptFunction) and trained.module is not None:
            raise TypeError(f"it is a method of {type(trained.module).__name__}; TorchScript takes modules")
        with saved(path) as file:
            torch.jit.save(scripted, file, _extra_files=extra)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from telling on standard error what is told in the error that it raises."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    """Return in one line what torch says, and at which line of the model."""
    text = str(error)
    fixed = _FIXED.search(text)
    if fixed:
        return f"the model works for one size of {fixed[1]} only, which is {fixed[2]} in the examples"
    said = first_cause(error)
    at = _AT.search(text)
    where = f" (at {Path(at[1]).name}:{at[2]}: {at[3].strip()})" if at else ""
    return f"{type(error).__name__}: {said[:_LONGEST]}{where}"
