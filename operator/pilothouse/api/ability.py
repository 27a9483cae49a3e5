"""Rules about what no runtime can do with a model of a format that the spec names.

Each pod would find it out for itself, after it was scheduled and has fetched the model. With `auto`, only it can know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilothouse.api.model import Format
from pilothouse.api.rules import Rule, one_of
from pilothouse.api.runtime import Device, Optimize

# In a folder of MLflow, as with `auto`, there may be a model of any format.
_UNTOLD: Final = (Format.AUTO, Format.MLFLOW)
_GRAPHS: Final = (*_UNTOLD, Format.EXPORTED, Format.TORCHSCRIPT)
OPTIMIZABLE: Final[Mapping[Optimize, tuple[Format, ...]]] = {
    Optimize.COMPILE: _GRAPHS,
    Optimize.BF16: _GRAPHS,
    Optimize.INT8: _GRAPHS,
    Optimize.MMAP: (*_UNTOLD, Format.EXPORTED, Format.SAFETENSORS, Format.STATEDICT, Format.TRANSFORMERS),
}


def _optimizable(wanted: Optimize) -> Rule:
    formats = OPTIMIZABLE[wanted]

    def holds(spec: Any) -> bool:
        return spec.runtime.optimize is not wanted or spec.model.format in formats

    return Rule(
        "runtime.optimize",
        f"is {wanted}, which can be done only where model.format is {', '.join(formats[:-1])} or {formats[-1]}; "
        "set it to none",
        holds,
        f"!has(self.runtime) || !has(self.runtime.optimize) || self.runtime.optimize != '{wanted}' || "
        f"!has(self.model.format) || self.model.format in {one_of(formats)}",
    )


def _not_explained(format_: Format, why: str) -> Rule:
    def holds(spec: Any) -> bool:
        return not spec.runtime.explain or spec.model.format is not format_

    return Rule(
        "runtime.explain",
        f"must be left out where model.format is {format_}: {why}",
        holds,
        "!has(self.runtime) || !has(self.runtime.explain) || !self.runtime.explain || "
        f"!has(self.model.format) || self.model.format != '{format_}'",
    )


ABILITY_RULES: Final = (
    *(_optimizable(wanted) for wanted in OPTIMIZABLE),
    _not_explained(
        Format.TENSORFLOW, "Captum explains, which needs PyTorch, and TensorFlow's image holds none"
    ),
    _not_explained(
        Format.PYTHON, "explanations have a thread of their own, and such a model may be run by one only"
    ),
    Rule(
        "runtime.workers",
        "must be 1 where model.format is tensorflow: TensorFlow starts threads of its own, which workers would lack",
        lambda spec: spec.runtime.workers == 1 or spec.model.format is not Format.TENSORFLOW,
        "!has(self.runtime) || !has(self.runtime.workers) || self.runtime.workers == 1 || "
        "!has(self.model.format) || self.model.format != 'tensorflow'",
    ),
    Rule(
        "runtime.workers",
        "must be 1 where runtime.device is cuda: a GPU's memory cannot be shared by processes",
        # What a class of the user's own does with a GPU, in which process, nobody knows.
        lambda spec: (
            spec.runtime.workers == 1
            or spec.runtime.device is not Device.CUDA
            or spec.model.format is Format.PYTHON
        ),
        "!has(self.runtime) || !has(self.runtime.workers) || self.runtime.workers == 1 || "
        "!has(self.runtime.device) || self.runtime.device != 'cuda' || "
        "has(self.model.format) && self.model.format == 'python'",
    ),
)
