"""Reads a golden data set: an .npz file with an array input.NAME for each input, and output.NAME for outputs.

The file may come from anywhere: nothing in it is unpickled, and how much it expands to is bounded.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.npyio import NpzFile

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.tensors import Array, datatype_of
from pilothouse_runtime.engine.formats import describe
from pilothouse_runtime.engine.source import LocalFile

INPUT: Final = "input."
OUTPUT: Final = "output."
MAX_BYTES: Final = 512 * 1024 * 1024  # of all arrays; they are held in memory, of which a Job has 1 GiB
_WRITE: Final = "write it with numpy.savez, as docs/runtime.md shows"


@dataclass(frozen=True)
class Golden:
    """Rows of inputs and what a good model answers; the first dimension of every array is `rows`."""

    rows: int
    inputs: dict[str, Array]
    outputs: dict[str, Array]


def not_done(message: str, *, permanent: bool) -> LoadError:
    """Return the failure of a validation that says nothing about the revision."""
    return LoadError(FailureReason.VALIDATION_NOT_DONE, message, permanent=permanent)


def read_golden(file: LocalFile, *, needs_outputs: bool) -> Golden:
    """Return the data set in a file.

    Args:
        needs_outputs: whether answers will be compared with the data set's outputs.
    Raises:
        LoadError: ValidationNotDone; names the array and its rule.
    """
    if file.path.is_dir():
        raise _unusable("is a folder; name the .npz file in it")
    with file.path.open("rb") as start:
        if start.read(4) != b"PK\x03\x04":
            what = describe(file.path, file.content_type)
            raise _unusable(f"is no .npz file but {what}; {_WRITE}")
    size = file.path.stat().st_size
    try:
        _check_expansion(file.path)
        with np.load(file.path, allow_pickle=False) as archive:
            arrays = dict(_arrays(archive))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise _unusable(f"is a broken archive of {size:,} bytes ({error}): is it cut off?") from None
    except MemoryError:
        raise not_done(
            "the data set does not fit into the memory of the validation", permanent=False
        ) from None
    inputs = {name.removeprefix(INPUT): array for name, array in arrays.items() if name.startswith(INPUT)}
    outputs = {name.removeprefix(OUTPUT): array for name, array in arrays.items() if name.startswith(OUTPUT)}
    for field, given in ((f"{INPUT}NAME", inputs), (f"{OUTPUT}NAME", outputs)):
        if not given and (given is inputs or needs_outputs):
            raise _unusable(f"has no array {field}; it has {', '.join(arrays) or 'none at all'}")
    return Golden(_rows(arrays), inputs, outputs)


def _unusable(message: str) -> LoadError:
    return not_done(f"the data set {message}", permanent=True)


def _check_expansion(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        expanded = sum(entry.file_size for entry in archive.infolist())
    if expanded > MAX_BYTES:
        raise _unusable(f"would expand to {expanded:,} bytes; {MAX_BYTES:,} are the most that are read")


def _arrays(archive: NpzFile) -> Iterator[tuple[str, Array]]:
    """Yield the arrays by name, after checking that each is one that can be sent or compared."""
    if len(set(archive.files)) != len(archive.files):
        raise _unusable("holds the same name twice")
    for name in archive.files:
        if not name.removeprefix(INPUT).removeprefix(OUTPUT) or not name.startswith((INPUT, OUTPUT)):
            raise _unusable(f"holds {name[:80]!r}, which is neither {INPUT}NAME nor {OUTPUT}NAME; {_WRITE}")
        try:
            array = archive[name]
        except ValueError as error:  # an object array, among others: numpy would have to unpickle it
            raise _unusable(f"holds an array {name!r} that is not read: {error}") from None
        yield name, _plain(name, array)


def _plain(name: str, array: Array | bytes) -> Array:
    """Return an array as the protocol carries it, little-endian."""
    if not isinstance(array, np.ndarray):
        raise _unusable(f"holds {name!r}, which is no array; {_WRITE}")
    if array.dtype.kind in "SU":
        return _texts(name, array)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    try:
        datatype_of(little.dtype)
    except KeyError:
        raise _unusable(
            f"holds {name!r} of type {array.dtype}; use bool, integers, floats of up to 64 bits, or texts as inputs"
        ) from None
    if name.startswith(OUTPUT) and little.dtype.kind == "f" and not np.isfinite(little).all():
        raise _unusable(f"holds NaN or infinity in {name!r}: nothing can be compared with that")
    return little


def _texts(name: str, array: Array) -> Array:
    """Return an array of numpy's texts (U) or bytes (S) as the protocol's BYTES; texts in UTF-8."""
    if name.startswith(OUTPUT):
        raise _unusable(f"holds texts in {name!r}: answers that are texts cannot be compared")
    encoded = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
    return encoded.astype(np.object_)


def _rows(arrays: dict[str, Array]) -> int:
    for name, array in arrays.items():
        if array.ndim == 0:
            raise _unusable(f"holds {name!r} without a dimension; the first one of every array is its rows")
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise _unusable(f"must have the same number of rows in every array: {told}")
    rows = next(iter(sizes.values()))
    if rows == 0:
        raise _unusable("has no rows")
    return rows
