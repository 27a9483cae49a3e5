"""The AOTInductor backend: programs that torch compiled ahead of time to native code.

Only where the spec says so: native code may do anything that the container may, and no check can tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils import _pytree as pytree

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.engine.failures import first_cause, unloadable
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.native import native_program, needs_of
from pilothouse_runtime.engine.torch_model import TorchModel


class CompiledModel(TorchModel):
    """A compiled program; inputs go by position, or by name where the program was exported with these names."""

    format = Format.AOTINDUCTOR
    platform = "pytorch_aotinductor"
    misfit: ClassVar = re.compile(rf"{TorchModel.misfit.pattern}|expected size \d+==\d+", re.DOTALL)

    def __init__(self, program: Any, signature: Signature | None, device: torch.device, size: int) -> None:
        super().__init__(signature, device, ())
        self.weight_bytes = size
        self._run = program.boxed_run
        # torch's own class reads both descriptions anew in each call.
        given, self._answer = map(pytree.treespec_loads, program.get_call_spec())
        keywords = given.child(1).context or []
        names = [spec.name for spec in signature.inputs] if signature else []
        by_name = not given.child(0).num_children and sorted(keywords) == sorted(names)
        self._order = [names.index(name) for name in keywords] if by_name else list(range(len(names)))

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the program."""
        ordered = [inputs[index] for index in self._order] if self._order else inputs
        return pytree.tree_unflatten(self._run([tensor.contiguous() for tensor in ordered]), self._answer)


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> CompiledModel:
    """Load a package written by torch._inductor.aoti_compile_and_package.

    Args:
        declared: the user's signature, if any: the package does not describe its tensors.
    Raises:
        LoadError: ModelLoadFailed; also for a package that was compiled for another device, CPU or release of torch.
    """
    try:
        needs = needs_of(path)
    except Exception as error:
        raise _broken(path, error) from error
    if lacking := needs.lacking(device.type):
        raise unloadable(f"{path.name} {lacking}; compile it anew for this one, or serve it uncompiled")
    try:
        # What `pack` did not write might refuse single rows if it looked at sizes.
        program = native_program(path, checks=bool(needs.torch))
        model = CompiledModel(program, declared, device, path.stat().st_size)
    except Exception as error:
        raise _broken(path, error) from error
    return model


def _broken(path: Path, error: Exception) -> LoadError:
    if isinstance(error, MemoryError):
        return unloadable(f"{path.name}: not enough memory to load it", permanent=False)
    return unloadable(
        f"{path.name}: torch cannot load this AOTInductor package, which needs the torch and the kind of CPU or GPU"
        f" that it was compiled with: {first_cause(error)}"
    )
