"""A signature from an example: for a model whose file does not describe its tensors, and whose user does not."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy

from pilothouse_runtime.core.tensors import ANY, Signature, TensorSpec, datatype_of
from pilothouse_runtime.engine.failures import unloadable

FILE: Final = "example.npz"
_PREFIX: Final = "input."


def signature_by_example(folder: Path) -> Signature | None:
    """Return the inputs that arrays `input.NAME` in a folder's example.npz have, first dimensions free, or None.

    Only the arrays' headers are read. Of outputs nothing is known: they are named and checked by nothing.

    Raises:
        LoadError: ModelLoadFailed; the file is broken, or holds Python objects.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    inputs = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if not name.startswith(_PREFIX):
                    continue
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                inputs.append(
                    TensorSpec(
                        name.removeprefix(_PREFIX), datatype_of(dtype), (ANY, *shape[1:])[: len(shape)]
                    )
                )
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, NotImplementedError) as error:
        raise unloadable(f"{folder.name}/{FILE} holds no plain arrays: {error}") from None
    if not inputs:
        raise unloadable(f"{folder.name}/{FILE} holds no array {_PREFIX}NAME")
    return Signature(tuple(inputs), ())


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects is a pickle, which is never loaded")
    return shape, dtype
