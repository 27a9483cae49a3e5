"""Examples of a model's inputs: read from .npz files, cut into rows, and varied in the sizes that are free."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from pilothouse_runtime.core.errors import LoadError, PackError
from pilothouse_runtime.core.tensors import Array
from pilothouse_runtime.engine.formats import describe
from pilothouse_runtime.engine.golden import INPUT, OUTPUT, Golden, read_golden
from pilothouse_runtime.engine.source import LocalFile
from pilothouse_runtime.validate.validation import BATCH_ROWS

BATCH: Final = "batch"  # the name of the first dimension, where it is rows

Inputs = Mapping[str, Array]
Free = Mapping[str, Mapping[int, str]]


def read_examples(path: Path) -> dict[str, Array]:
    """Return the inputs in an .npz file: an array NAME, or input.NAME as in a golden data set, for each.

    Raises:
        PackError: it is no such file, or holds Python objects, which would have to be unpickled.
    """
    try:
        with path.open("rb") as file:
            try:
                archive = np.load(file, allow_pickle=False)
            except (ValueError, EOFError):  # numpy's own words advise to unpickle what it does not know
                raise PackError(
                    f"{path}: is not read as .npz: it is {describe(path)}; write it with numpy.savez"
                ) from None
            single = isinstance(archive, np.ndarray)
            arrays = {} if single else {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise PackError(f"{path}: is not read as .npz: {error}; write it with numpy.savez") from None
    except OSError as error:
        raise PackError(f"{path}: {error.strerror or error}") from None
    if single:
        raise PackError(f"{path}: is a single array; write it with numpy.savez, each array by its name")
    if any(name.startswith(INPUT) for name in arrays):
        return {name.removeprefix(INPUT): array for name, array in arrays.items() if name.startswith(INPUT)}
    return arrays


def read_golden_file(path: Path) -> Golden:
    """Return a golden data set, with or without outputs. Raises PackError where it is none."""
    try:
        path.open("rb").close()
        return read_golden(LocalFile(path), needs_outputs=False)
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}") from None
    except LoadError as error:
        raise PackError(f"{path}: {error.message}") from None


def common_rows(arrays: Inputs) -> int | None:
    """Return the size of the first dimension that all arrays share, or None where they share none."""
    sizes = {array.shape[:1] for array in arrays.values()}
    return sizes.pop()[0] if len(sizes) == 1 and () not in sizes else None


def free_dimensions(inputs: Inputs, dynamic: Mapping[str, Mapping[int, str]], *, batch: bool) -> Free:
    """Return the free dimensions of each input, after checking them against the examples.

    Raises:
        PackError: names the input and the rule.
    """
    free: dict[str, dict[int, str]] = {name: {} for name in inputs}
    sizes: dict[str, tuple[str, int]] = {}
    wanted = {name: dict(axes) for name, axes in dynamic.items()}
    if batch:
        for name, array in inputs.items():
            if array.ndim == 0:
                raise PackError(
                    f"example_inputs: {name!r} has no dimension, so no rows; give batch=False (--fixed-batch)"
                )
            wanted.setdefault(name, {}).setdefault(0, BATCH)
    for name, axes in wanted.items():
        if name not in inputs:
            raise PackError(f"dynamic: there is no input {name!r}; there is {', '.join(inputs)}")
        for axis, dimension in axes.items():
            shape = inputs[name].shape
            if not 0 <= axis < len(shape):
                raise PackError(f"dynamic: {name!r} has the shape {list(shape)}, and no dimension {axis}")
            if not dimension.isidentifier():
                raise PackError(f"dynamic: {dimension!r} must be a name, as in length")
            first, size = sizes.setdefault(dimension, (name, shape[axis]))
            if size != shape[axis]:
                raise PackError(
                    f"example_inputs: {dimension} is {size} in {first!r} and {shape[axis]} in {name!r}; where they"
                    " may differ, give them names of their own with dynamic, or batch=False (--fixed-batch)"
                )
            free[name][axis] = dimension
    for dimension, (name, size) in sizes.items():
        if size == 0 or (size == 1 and dimension != BATCH):
            raise PackError(
                f"example_inputs: {dimension} is {size} in {name!r}; give examples in which it is 2 or more"
            )
    return free


def doubled(inputs: Inputs, free: Free) -> dict[str, Array]:
    """Return inputs of two rows where there is one: export cannot tell a free size of 1 from a constant."""
    return {
        name: np.concatenate([array, array]) if free[name].get(0) == BATCH and len(array) == 1 else array
        for name, array in inputs.items()
    }


def variations(inputs: Inputs, free: Free) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield for each free dimension its name, and inputs in which it is smaller: one row, or one less of all else."""
    for dimension in sorted({dimension for axes in free.values() for dimension in axes.values()}):
        yield (
            dimension,
            {
                name: array[
                    tuple(
                        slice(None) if free[name].get(axis) != dimension else _smaller(dimension, size)
                        for axis, size in enumerate(array.shape)
                    )
                ]
                for name, array in inputs.items()
            },
        )


def _smaller(dimension: str, size: int) -> slice:
    return slice(0, 1 if dimension == BATCH else size - 1)


def batches(inputs: Inputs, rows: int, free: Free) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield rows as a validation sends them, and how many of them count: a fixed batch is filled with the last row."""
    fixed = None if any(axes.get(0) == BATCH for axes in free.values()) else len(next(iter(inputs.values())))
    size = fixed or BATCH_ROWS
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        index = np.arange(start, start + size if fixed else stop).clip(max=rows - 1)
        yield {name: array[index] for name, array in inputs.items()}, stop - start


def golden_arrays(inputs: Inputs, outputs: Inputs) -> dict[str, Array]:
    """Return the arrays of a golden data set's file by their names in it."""
    return {f"{INPUT}{name}": array for name, array in inputs.items()} | {
        f"{OUTPUT}{name}": array for name, array in outputs.items()
    }
