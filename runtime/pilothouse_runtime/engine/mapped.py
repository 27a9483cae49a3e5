"""Weights that stay pages of their file: the kernel reads them when they are used, and shares and takes back what is
in memory as it likes. What writes to one gets a copy of that page; the file is never written to.
"""

from __future__ import annotations

import logging
import zipfile
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from pilothouse_runtime.core.settings import Optimize
from pilothouse_runtime.engine.failures import not_optimizable

log = logging.getLogger(__name__)

_ENOUGH: Final = 0.9  # of the weights; small ones may be made anew by the network


class MappedRecords:
    """The members of an archive as torch's reader gives them, but tensors as pages of the file.

    Those that are compressed, or do not begin where numbers of their type may, are read as torch does it.

    Args:
        records: torch's PyTorchFileReader of the same file.
    """

    def __init__(self, records: Any, path: Path) -> None:
        self._records = records
        self._size = path.stat().st_size
        self._pages = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=self._size)
        with zipfile.ZipFile(path) as archive:
            self._plain = {
                member.filename.partition("/")[2]
                for member in archive.infolist()
                if member.compress_type == zipfile.ZIP_STORED
            }

    def __getattr__(self, name: str) -> Any:
        """Return anything else that the reader has."""
        return getattr(self._records, name)

    def get_storage_from_record(self, name: str, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Return a member as so many numbers."""
        start, size = self._records.get_record_offset(name), count * dtype.itemsize
        if name not in self._plain or start % dtype.itemsize or start + size > self._size:
            tensor: torch.Tensor = self._records.get_storage_from_record(name, count, dtype)
            return tensor
        pages: Any = self._pages[start : start + size]
        return torch.empty(0, dtype=dtype).set_(pages, 0, (count,), (1,))


def aligned(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors of which those are copies that begin where numbers of their type may not."""
    return {
        name: tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor
        for name, tensor in tensors.items()
    }


def check_mapped(path: Path, weights: Iterable[torch.Tensor]) -> None:
    """Make sure that a model's weights are pages of its file, or of the files in its folder.

    Raises:
        LoadError: OptimizationFailed; too many are not.
    """
    starts, ends = _mappings(path.resolve())
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in weights}
    total = sum(storages.values())
    there = 0
    for address, size in storages.items():
        index = bisect_right(starts, address) - 1
        if index >= 0 and address < ends[index]:
            there += size
    log.info("%d of %d bytes of weights are pages of %s", there, total, path.name)
    if there < _ENOUGH * total:
        raise not_optimizable(
            Optimize.MMAP,
            f"only {there} of {total} bytes of its weights could stay in {path.name}: the network makes the others"
            " anew, or in another type",
        )


def _mappings(path: Path) -> tuple[list[int], list[int]]:
    """Return where mappings of a file, or of the files in a folder, begin and end in memory, in this order."""
    starts, ends = [], []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, _, *name = line.split(maxsplit=5)
        if name and Path(name[0]).is_relative_to(path):
            first, _, last = addresses.partition("-")
            starts.append(int(first, 16))
            ends.append(int(last, 16))
    return starts, ends
