"""From a trained model to a folder that can be served: the one function that training scripts call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime.core.errors import PackError
from pilothouse_runtime.core.manifest import NAME, Manifest, name_and_version
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Array
from pilothouse_runtime.digests import digest_of
from pilothouse_runtime.engine.exporting.trained import Trained
from pilothouse_runtime.pack.folder import check_target, staged
from pilothouse_runtime.pack.snippet import deployment
from pilothouse_runtime.pack.work import Work

_FORMATS: Final = (Format.AUTO, Format.EXPORTED, Format.TORCHSCRIPT)


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        digest: sha256:... of the folder, for `spec.model.digest`.
        difference: the largest between the offline answers and those of the folder as it is served, over the largest
            number of an output where that is above 1.
        rows: of the golden data set; 0 where none was written.
        metrics: of the offline answers, where golden outputs were given.
        notes: what its user should know.
        deployment: a ModelDeployment to paste, in YAML.
    """

    folder: Path
    manifest: Manifest
    digest: str
    difference: float
    rows: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    deployment: str = ""


def pack(
    model: Any,
    example_inputs: Any,
    folder: str | Path,
    *,
    name: str = "",
    version: str = "",
    format: str = "auto",  # noqa: A002 - as the spec calls it
    compile: bool = False,  # noqa: A002 - as people call it
    outputs: Sequence[str] = (),
    batch: bool = True,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    golden_inputs: Any = None,
    golden_outputs: Mapping[str, Array] | None = None,
    tolerance: float | None = None,
    preprocessing: str = "",
    source: str = "",
    force: bool = False,
) -> Packed:
    """Write a folder from which the runtime serves a trained model, and prove that it answers as the model does.

    The folder gets the model in a format that holds no pickles (torch.export; TorchScript where torch.export does not
    take the model), `golden.npz` with inputs and the model's own answers, and `pilothouse.json` with its signature.
    Then it is loaded as a pod loads it, and its answers are compared with the model's: to the examples, to one row, to
    each further free size made smaller, and to the golden inputs. Where anything goes wrong, nothing is left behind.

        packed = pack(network, {"image": images[:8]}, "models/digits/2", outputs=["logits"],
                      golden_inputs={"image": held_out}, golden_outputs={"logits": labels})
        print(packed.deployment)

    Args:
        model: a module, a function of tensors, or the path of a model file (.pt2, .pt, or another that
            `model.format` knows), which is copied. A module is asked in evaluation mode, and left as it was.
        example_inputs: arrays or tensors by the names of the model's arguments, which become the names of the served
            inputs; or in their order. Datatypes and sizes are taken from them.
        folder: where to write; made if missing. What was packed there before is replaced.
        name, version: for the ModelDeployment; by default from the folder: digits and 2 for digits/2.
        format: auto, exported or torchscript.
        compile: to native code (AOTInductor), which runs faster, with this release of torch only, and is loaded only
            where the spec says `format: aotinductor`. Needs a C++ compiler here, and none where it is served.
        outputs: names of the outputs, in the order in which the model returns them. Where it returns a dict, the keys
            are the names; else they are output_0, output_1 and so on.
        batch: whether the first dimension of every input is rows, of which there may be any number.
        dynamic: further dimensions of any size: {"tokens": {1: "length"}}. Those of one name have one size.
        golden_inputs: as example_inputs, rows for golden.npz; the examples where none are given.
        golden_outputs: arrays by name of an output: what is right for these rows, such as class numbers [rows]. Where
            none are given, it is what the model answers.
        tolerance: the largest difference allowed for floats, over the largest number of an output where that is above
            1. By default 1e-4 for FP32 and FP64, 1e-2 for FP16, 5e-2 for BF16. All else must be equal.
        preprocessing: for people: what is done to data before it is sent, where the model does not do it itself.
        source: for people: where the model is from, such as a commit or the name of a run.
        force: delete what is in the folder, whoever wrote it.
    Raises:
        PackError: the message names the argument, the rule it broke, and what to do.
    """
    target = Path(folder).absolute()
    check_target(target, force=force)
    own_name, own_version = name_and_version(target)
    name, version = _checked_name(name or own_name), version or own_version
    wanted = _format(format, compiled=compile)
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise PackError(f"tolerance: {tolerance} must be 0 or more")
    with staged(target) as stage:
        work = Work(stage, tolerance)
        if isinstance(model, str | Path):
            if wanted is not Format.AUTO or outputs or compile:
                argument = "outputs" if outputs else "compile" if compile else "format"
                raise PackError(f"{argument}: is for modules and functions; a model file is copied as it is")
            work.take_file(Path(model), example_inputs, dynamic or {}, batch=batch)
        else:
            work.take_model(Trained(model, outputs), example_inputs, dynamic or {}, wanted, batch=batch)
        work.write_golden(golden_inputs, golden_outputs or {})
        manifest = work.write_manifest(preprocessing, source or _described(model))
        work.prove()
        digest = digest_of(stage)
    return Packed(
        folder=target,
        manifest=manifest,
        digest=digest,
        difference=work.difference,
        rows=work.rows,
        metrics=work.metrics,
        notes=tuple(work.notes),
        deployment=deployment(name, version, digest, manifest, work.gate, work.rows),
    )


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise PackError(
            f"name: {name!r} must be lower-case letters, digits and -, begin with a letter, and have at most 52 of them"
        )
    return name


def _format(name: str, *, compiled: bool) -> Format:
    if name not in _FORMATS:
        raise PackError(f"format: {name!r} is none of {', '.join(_FORMATS)}")
    if compiled and name != Format.AUTO:
        raise PackError(f"compile: writes a format of its own; leave out format, which is {name!r}")
    return Format.AOTINDUCTOR if compiled else Format(name)


def _described(model: Any) -> str:
    """Return in words what a model is."""
    if isinstance(model, str | Path):
        return Path(model).name
    named = model if hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}:{named.__qualname__}"
