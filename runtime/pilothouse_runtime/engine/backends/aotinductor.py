"""The AOTInductor backend: programs that torch compiled ahead of time to native code.

Only where the spec says so: native code may do anything that the container may, and no check can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch._inductor import aoti_load_package

from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.failures import first_cause, unloadable
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.torch_model import TorchModel


class CompiledModel(TorchModel):
    """A compiled program; inputs go by position."""

    format = Format.AOTINDUCTOR
    platform = "pytorch_aotinductor"

    def __init__(self, program: Any, signature: Signature | None, device: torch.device, size: int) -> None:
        super().__init__(signature, device, ())
        self.weight_bytes = size
        self._program = program

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the program."""
        return self._program(*inputs)


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> CompiledModel:
    """Load a package written by torch._inductor.aoti_compile_and_package.

    Args:
        declared: the user's signature, if any: the package does not describe its tensors.
    Raises:
        LoadError: ModelLoadFailed; also for a package that was compiled for another device.
    """
    try:
        program = aoti_load_package(str(path))
        compiled_for = program.loader.get_metadata().get("AOTI_DEVICE_KEY", device.type)
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(
            f"{path.name}: torch cannot load this AOTInductor package, which needs the torch and the kind of CPU or GPU"
            f" that it was compiled with: {first_cause(error)}"
        ) from error
    if compiled_for != device.type:
        raise unloadable(
            f"{path.name} was compiled for {compiled_for}, but this container runs it on {device.type}"
        )
    return CompiledModel(program, declared, device, path.stat().st_size)
