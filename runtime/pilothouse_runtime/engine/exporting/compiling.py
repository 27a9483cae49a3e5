"""Compiles an exported program ahead of time to native code: for CPUs that are named, or for the one at hand."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any, Final

import torch
from torch._inductor import aoti_compile_and_package
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.export import ExportedProgram

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.engine.exporting.saving import saved
from pilothouse_runtime.engine.native import TORCH_KEY, needs_of, release

# torch would compile for the very CPU that it runs on, and so for nodes that are not less. Kernels of its own that the
# program calls choose their instructions when they run.
_PORTABLE: Final = {"x86_64": {"cpp.march": "x86-64-v3", "cpp.simdlen": 256}}
# Runs share the CPUs (`engine.threads`), and native code would start as many threads as it was compiled with in each.
# oneDNN's products, in which most of the time goes by, use the threads that their run is given.
_HERE: Final = {"cpp.threads": 1}
_OPTIONS: Final = {
    "freezing": True,  # weights are laid out for oneDNN; without it, what is compiled is slower than what is not
    "fallback_random": True,  # the numbers that the model itself draws
    "aot_inductor.check_lowerbound": False,  # it takes any free size for one of two or more
}


def check_compiler() -> None:
    """Raise PackError where there is no C++ compiler."""
    if not has_compiler():
        raise PackError(
            "compile: needs a C++ compiler, and there is none; install g++, or name another in the variable CXX"
        )


def has_compiler() -> bool:
    """Say whether there is a C++ compiler, and the headers of torch."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return Path(torch.__file__).with_name("include").is_dir()


def compile_program(program: ExportedProgram, path: Path, *, portable: bool = True) -> str:
    """Write a program as an AOTInductor package, and return what it needs, in words.

    Args:
        portable: for any CPU of this kind, and not for all that the one at hand can do.
    Raises:
        Exception: whatever torch or the compiler says.
    """
    options: dict[str, Any] = {
        **_OPTIONS,
        **(_PORTABLE.get(platform.machine(), {}) if portable else _HERE),
        "aot_inductor.metadata": {TORCH_KEY: release()},
    }
    with saved(path) as file, torch.no_grad():  # which freezing asks for
        aoti_compile_and_package(program, package_path=file, inductor_configs=options)
    return str(needs_of(path))
