"""Whether a model that is run as `runtime.optimize` asks for still answers as its file does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.tensors import Tensor
from pilothouse_runtime.engine.failures import first_cause, not_optimizable
from pilothouse_runtime.engine.likeness import deviation, difference

# How far off answers may be, as a part of the largest number of an output. A compiler adds in another order, as a batch
# of another size does. bfloat16 has 8 bits, of which errors of a few layers take some; int8 rounds to a 254th of the
# largest weight of an output, and of the largest input of a row. A mapped weight is the same number, but kernels may
# begin elsewhere in a sum where a file lays it down at an odd place.
TOLERANCES: Final[Mapping[Optimize, float]] = {
    Optimize.COMPILE: 0.001,
    Optimize.BF16: 0.02,
    Optimize.INT8: 0.05,
    Optimize.MMAP: 0.00001,
}

_GRAPHS: Final = frozenset({Format.EXPORTED, Format.TORCHSCRIPT})
FORMATS: Final[Mapping[Optimize, frozenset[Format]]] = {
    Optimize.COMPILE: _GRAPHS,
    Optimize.BF16: _GRAPHS,
    Optimize.INT8: _GRAPHS,
    Optimize.MMAP: frozenset({Format.EXPORTED, Format.SAFETENSORS, Format.STATEDICT, Format.TRANSFORMERS}),
}


def answers_of_the_file(wanted: Optimize, run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Return what a model answers that is run as its file says.

    Args:
        run: returns the answers to the same inputs in each call, none of which shares memory with another.
    Raises:
        LoadError: OptimizationFailed; it does not take made-up inputs, has a memory, or draws random numbers.
    """
    try:
        want = run()
        flaw = difference(run(), want)
    except RequestError as error:
        raise unchecked(wanted, f"it does not take made-up inputs ({error.message})") from error
    if flaw:
        raise unchecked(wanted, "it answers otherwise each time")
    return want


def unchecked(wanted: Optimize, obstacle: str) -> Exception:
    """Return the failure of a model that cannot be compared with its file."""
    return not_optimizable(wanted, f"{obstacle}, so that it cannot be checked")


def compared(wanted: Optimize, got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Return how far off answers are, as a part of the largest number of an output.

    Raises:
        LoadError: OptimizationFailed; further than is stated.
    """
    off, name = deviation(got, want)
    if not off <= TOLERANCES[wanted]:
        found = f"changes output {name!r} by {off:.2%} of its largest number for made-up inputs"
        raise not_optimizable(wanted, f"that {found}, and {100 * TOLERANCES[wanted]:.5g}% is what it may")
    return off


def unfit(wanted: Optimize, error: Exception) -> Exception:
    """Return the failure of a model that fails when it is run so."""
    return not_optimizable(wanted, f"the model cannot be run so: {first_cause(error)}")
