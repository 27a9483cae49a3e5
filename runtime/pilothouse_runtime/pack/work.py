"""The steps of packing one model into a folder that is being made."""

from __future__ import annotations

import contextlib
import math
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from pilothouse_runtime.core.errors import PackError, RequestError
from pilothouse_runtime.core.manifest import GOLDEN_FILE, MANIFEST_FILE, Manifest
from pilothouse_runtime.core.requests import arrange_inputs
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import ANY, Array, Datatype, Signature, Tensor, TensorSpec, datatype_of
from pilothouse_runtime.digests import digest_of
from pilothouse_runtime.engine.exporting.export import write
from pilothouse_runtime.engine.exporting.served import Served
from pilothouse_runtime.engine.exporting.trained import SEED, Trained, as_arrays, by_name
from pilothouse_runtime.engine.golden import MAX_BYTES
from pilothouse_runtime.pack.compare import Comparison, bound, is_close
from pilothouse_runtime.pack.samples import (
    BATCH,
    Free,
    batches,
    common_rows,
    doubled,
    free_dimensions,
    golden_arrays,
    variations,
)
from pilothouse_runtime.pack.snippet import Gate
from pilothouse_runtime.validate.scores import Metric, MismatchError, Tally

_LIBRARIES: Final = ("pilothouse", "torch", "numpy")
_LIBRARY_OF: Final = {"onnx": ("onnxruntime",), "keras": ("keras",)}  # besides these, by format
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9_-]+")

Arrays = dict[str, Array]


class _Offline(Protocol):
    """What is asked for the right answers."""

    def answers(self, inputs: Mapping[str, Array], seed: int = SEED) -> Arrays:
        """Return outputs by name."""


class Work:
    """One model on its way into `stage`.

    Attributes:
        notes: what its user should know.
        gate: how a rollout may check the golden data set; None where there is none.
        metrics: how good the offline answers are, where golden outputs were given.
        rows: of the golden data set.
    """

    def __init__(self, stage: Path, tolerance: float | None) -> None:
        self._stage = stage
        self._comparison = Comparison(tolerance)
        self._tolerance = tolerance
        self._runs: list[tuple[str, Arrays, Arrays]] = []
        self._random: set[str] = set()
        self._offline: _Offline
        self._signature: Signature
        self._inputs: Arrays
        self._free: Free
        self._file: Path
        self._format: Format
        self._from_file = False
        self._compiled_for = ""
        self.notes: list[str] = []
        self.gate: Gate | None = None
        self.metrics: dict[str, float] = {}
        self.rows = 0

    @property
    def difference(self) -> float:
        """The largest that `prove` has found."""
        return self._comparison.largest

    def take_model(
        self,
        trained: Trained,
        examples: Any,
        dynamic: Mapping[str, Mapping[int, str]],
        wanted: Format,
        *,
        batch: bool,
    ) -> None:
        """Export a module or a function. Raises PackError, as all of these steps do."""
        inputs = trained.named(examples)
        self._free = free_dimensions(inputs, dynamic, batch=batch)
        self._inputs = doubled(inputs, self._free)
        self._offline = trained
        self._signature = self._observe()
        written = write(trained, self._inputs, self._free, self._signature, self._stage, wanted)
        self._file, self._format = written.path, written.format
        self._compiled_for = written.compiled_for
        self.notes.extend(written.limits)
        if written.refusal:
            self.notes.append(
                f"written as TorchScript, since torch.export does not take it: {written.refusal}"
            )

    def take_file(
        self, path: Path, examples: Any, dynamic: Mapping[str, Mapping[int, str]], *, batch: bool
    ) -> None:
        """Copy a model file."""
        if path.is_dir():
            raise PackError(
                f"model: {path} is a folder; one file is packed. Folders (transformers, SavedModel, MLflow) are served"
                " as they are"
            )
        if not path.is_file():
            raise PackError(f"model: {path} is no file")
        if path.suffix == ".safetensors":
            raise PackError(
                f"model: {path.name} holds weights only; name the network too:"
                f" pilothouse-runtime pack my_module:Network() --weights {path.name}"
            )
        self._from_file = True
        served = Served(path)  # under its own name, for messages; `prove` asks the copy
        suffix = path.suffix if _SUFFIX.fullmatch(path.suffix) else ""
        self._file = Path(shutil.copyfile(path, self._stage / f"model{suffix}"))
        if served.signature is None:
            inputs = as_arrays(by_name(examples, ()))
            self._free = free_dimensions(inputs, dynamic, batch=batch)
            served = Served(path, _specs(inputs, self._free))
        else:
            if dynamic:
                raise PackError("dynamic: the file says itself which of its sizes are free")
            inputs = _fitting(as_arrays(by_name(examples, _names(served.signature))), served.signature)
            free = all(spec.shape[:1] == (ANY,) for spec in served.signature.inputs)
            self._free = {name: {0: BATCH} if free else {} for name in inputs}
        self._inputs, self._offline, self._format = inputs, served, served.format
        known, observed = served.signature, self._observe()
        self._signature = Signature(known.inputs, known.outputs or observed.outputs) if known else observed

    def _observe(self) -> Signature:
        """Ask for the right answers to the examples, and for those where a free size is smaller."""
        answers = self._offline.answers(self._inputs)
        self._runs.append(("the example inputs", self._inputs, answers))
        others = self._offline.answers(self._inputs, SEED + 1)
        self._random = {
            name for name in answers if not is_close(others[name], answers[name], self._tolerance)
        }
        shapes = {name: list(array.shape) for name, array in answers.items()}
        for dimension, smaller in variations(self._inputs, self._free):
            what = "one row" if dimension == BATCH else f"a smaller {dimension}"
            try:
                varied = self._offline.answers(smaller)
            except PackError as error:
                hint = " (batch=False, --fixed-batch)" if dimension == BATCH else ""
                raise PackError(
                    f"{dimension} cannot be free{hint}: the model takes the examples, but not {what}: {error}"
                ) from error
            self._runs.append((what, smaller, varied))
            for name, shape in shapes.items():
                if name not in varied or varied[name].ndim != len(shape):
                    raise PackError(f"{dimension} cannot be free: for {what} output {name!r} is another one")
                changed = zip(shape, varied[name].shape, strict=True)
                shapes[name] = [size if size == other else ANY for size, other in changed]
        outputs = tuple(
            TensorSpec(name, datatype_of(answers[name].dtype), tuple(shape)) for name, shape in shapes.items()
        )
        return Signature(_specs(self._inputs, self._free), outputs)

    def write_golden(self, inputs: Any, outputs: Mapping[str, Array]) -> None:
        """Write golden.npz: these inputs, or the examples; and these outputs, or the right answers."""
        if inputs is None:
            given = self._inputs
        else:
            named = by_name(inputs, _names(self._signature), "golden_inputs")
            given = _fitting(as_arrays(named, "golden_inputs"), self._signature, "golden_inputs")
        rows = common_rows(given)
        answers = self._golden_answers(given, rows) if rows else None
        if rows is None or answers is None:
            told = "no golden data set was written: inputs and outputs do not have the same number of rows"
            if inputs is not None or outputs:
                raise PackError(f"golden_inputs: {told}")
            self.notes.append(told)
            return
        if any(datatype_of(array.dtype) is Datatype.BF16 for array in given.values()):
            self.notes.append(
                "no golden data set was written: .npz files do not know BF16, which an input is"
            )
            return
        expected = dict(outputs) or self._comparable(answers)
        if not expected:
            self.notes.append("no golden data set was written: no output can be compared")
            return
        arrays = golden_arrays(given, expected)
        size = sum(array.nbytes for array in arrays.values())
        if size > MAX_BYTES:
            raise PackError(
                f"golden_inputs: {size:,} bytes of arrays; a validation reads at most {MAX_BYTES:,}: give fewer rows"
            )
        if outputs:
            self.metrics = _metrics(answers, expected, rows)
        self.gate = _gate(self.metrics, expected, self._tolerance)
        np.savez(self._stage / GOLDEN_FILE, allow_pickle=False, **arrays)
        self.rows = rows

    def _golden_answers(self, inputs: Arrays, rows: int) -> Arrays | None:
        """Return the right answers to so many rows, or None where an output has no rows."""
        parts: list[Arrays] = []
        for part, count in batches(inputs, rows, self._free):
            answers = self._offline.answers(part)
            sent = len(next(iter(part.values())))
            if any(array.shape[:1] != (sent,) for array in answers.values()):
                return None
            self._runs.append(("the golden inputs", part, answers))
            parts.append({name: array[:count] for name, array in answers.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _comparable(self, answers: Arrays) -> Arrays:
        """Return the answers that any good model gives again."""
        kept = {}
        for name, array in answers.items():
            if name in self._random:
                self.notes.append(
                    f"output {name!r} is random (another answer to the same inputs), and not in golden.npz"
                )
            elif array.dtype.kind in "fV" and not np.isfinite(array.astype(np.float64)).all():
                self.notes.append(f"output {name!r} holds NaN or infinity, and is not in golden.npz")
            elif datatype_of(array.dtype) is Datatype.BF16:
                kept[name] = array.astype(np.float32)  # .npz files do not know BF16; metrics compare numbers
            else:
                kept[name] = array
        return kept

    def write_manifest(self, preprocessing: str, source: str) -> Manifest:
        """Write pilothouse.json."""
        # No time: the same model is to have the same digest, whenever it was packed.
        packed = {"from": source, **self._versions()}
        files = {path.name: digest_of(path) for path in self._stage.iterdir()}
        manifest = Manifest(self._file.name, self._format, self._signature, files, preprocessing, packed)
        (self._stage / MANIFEST_FILE).write_text(manifest.encode())
        return manifest

    def _versions(self) -> dict[str, str]:
        """Return the versions of what the model was packed with."""
        versions = {"python": platform.python_version()}
        if self._compiled_for:
            versions["for"] = self._compiled_for
        for library in (*_LIBRARIES, *_LIBRARY_OF.get(self._format, ())):
            with contextlib.suppress(
                metadata.PackageNotFoundError
            ):  # Pilothouse itself, run from its sources
                versions[library] = metadata.version(library)
        return versions

    def prove(self) -> None:
        """Load the folder as a pod would, and compare its answers with the right ones."""
        served = Served(self._stage, format_=self._format)
        for what, inputs, want in self._runs:
            # A copied file that throws dice need not take them from torch: it is the same file.
            compared = {
                name: array for name, array in want.items() if not (self._from_file and name in self._random)
            }
            self._comparison.add(what, served.answers(inputs), compared)
        self._runs.clear()


def _names(signature: Signature) -> list[str]:
    return [spec.name for spec in signature.inputs]


def _specs(inputs: Mapping[str, Array], free: Free) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name,
            datatype_of(array.dtype),
            tuple(ANY if axis in free[name] else size for axis, size in enumerate(array.shape)),
        )
        for name, array in inputs.items()
    )


def _fitting(inputs: Arrays, signature: Signature, argument: str = "example_inputs") -> Arrays:
    """Return inputs in the model's order, after checking that they are what it takes."""
    tensors = [Tensor(name, datatype_of(array.dtype), array) for name, array in inputs.items()]
    try:
        return {tensor.name: tensor.array for tensor in arrange_inputs(tensors, signature)}
    except RequestError as error:
        raise PackError(f"{argument}: {error.message}") from None


def _metrics(answers: Arrays, expected: Mapping[str, Array], rows: int) -> dict[str, float]:
    """Return all metrics that can be computed of the offline answers."""
    found, problems = {}, []
    for name, array in expected.items():
        if name not in answers:
            raise PackError(
                f"golden_outputs: the model has no output {name!r}; it gives {', '.join(answers)}"
            )
        if array.shape[:1] != (rows,):
            raise PackError(
                f"golden_outputs: {name!r} has the shape {list(array.shape)} for {rows} rows of inputs"
            )
    for metric in Metric:
        tally = Tally(metric)
        try:
            tally.add(answers, expected)
        except MismatchError as error:
            problems.append(str(error))
        else:
            if tally.flaw:
                raise PackError(
                    f"golden_inputs: {tally.flaw}, so that no model can be held to it; leave such rows out"
                )
            found[str(metric)] = tally.value
    if not found:
        raise PackError(f"golden_outputs: {problems[0]}")
    return found


def _gate(metrics: Mapping[str, float], expected: Mapping[str, Array], tolerance: float | None) -> Gate:
    """Return a bound that this model passes, and that one which is clearly worse does not."""
    if Metric.ACCURACY in metrics:
        return Gate(Metric.ACCURACY, "min", max(0.0, math.floor(metrics[Metric.ACCURACY] * 100 - 1) / 100))
    if metrics:
        squares = metrics[Metric.MEAN_SQUARED_ERROR]
        return Gate(Metric.MEAN_SQUARED_ERROR, "max", float(f"{squares * 1.1:.2g}"))
    most = max(bound(array, tolerance) for array in expected.values())
    return Gate(Metric.MAX_DIFFERENCE, "max", float(f"{2 * most:.1g}"))
