"""Packages of native code (AOTInductor): what one was compiled for, read without running any of it; and loading it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

# In the package's metadata, beside those of torch's own; packages that `pack` did not write lack it.
TORCH_KEY: Final = "PILOTHOUSE_TORCH"

_MOST_RUNNERS: Final = 8  # as many as `threads.share` makes of one process
# Of what torch calls an instruction set, the features of a CPU by torch's names. Others are not known here, and not
# checked: those of other machines than x86_64.
_FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "AVX2": ("avx2", "bmi", "bmi2", "f16c", "fma3", "lzcnt"),
    "AVX512": ("avx512_bw", "avx512_dq", "avx512_f", "avx512_vl", "fma3"),
    "AVX512_VNNI": ("avx512_vnni",),
    "AMX_TILE": ("amx_bf16", "amx_int8", "amx_tile"),
}


@dataclass(frozen=True)
class Needs:
    """What a package says.

    Attributes:
        device: cpu or cuda; "" where it is not said, as for all of these.
        machine: such as x86_64.
        instructions: of the CPU, in torch's words: AVX2, or several that are parted by spaces.
        torch: the release.
    """

    device: str
    machine: str
    instructions: str
    torch: str

    def __str__(self) -> str:
        """Return all in words, for people."""
        return " ".join(filter(None, (self.device, self.machine, self.instructions)))

    def lacking(self, device: str) -> str:
        """Return in words what this process does not have, when it is to run the package on a device; "" if nothing."""
        if self.torch and self.torch != release():
            return f"was compiled with torch {self.torch}, but this is torch {release()}"
        if self.device and self.device != device:
            return f"was compiled for {self.device}, but this container runs it on {device}"
        if self.machine and self.machine != platform.machine():
            return f"was compiled for {self.machine}, but this machine is {platform.machine()}"
        has = torch.cpu.get_capabilities()
        needed = [name for word in self.instructions.split() for name in _FEATURES.get(word, ())]
        missing = sorted({name for name in needed if not has.get(name)})
        if missing:
            return f"was compiled for CPUs with {self.instructions}, but this CPU lacks {', '.join(missing)}"
        return ""


def release() -> str:
    """Return torch's version without what tells its builds apart, such as +cpu: they know the same operators."""
    return torch.__version__.partition("+")[0]


def needs_of(path: Path) -> Needs:
    """Read what a package needs.

    Raises:
        RuntimeError: torch cannot read it.
    """
    loader = torch._C._aoti.AOTIModelPackageLoader
    told = loader.load_metadata_from_package(str(path), "model")  # type: ignore[attr-defined] # it is there
    return Needs(
        told.get("AOTI_DEVICE_KEY", ""),
        told.get("AOTI_MACHINE", ""),
        told.get("AOTI_CPU_ISA", ""),
        told.get(TORCH_KEY, ""),
    )


def native_program(path: Path, *, checks: bool = True) -> Any:
    """Load a package, which runs its code in this process.

    Args:
        checks: its code looks at the sizes and types of inputs before it uses them. In this process, from now on.
    Raises:
        RuntimeError: torch cannot load it.
    """
    if checks:
        os.environ.setdefault("AOTI_RUNTIME_CHECK_INPUTS", "1")
    # Not aoti_load_package: that asks a C++ compiler which instructions this CPU has.
    return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, _runners(), -1)


def _runners() -> int:
    """Return how many runs there may be at the same time: more wait for each other. They share the weights."""
    return min(torch.get_num_threads(), _MOST_RUNNERS)
