"""Every family of models, packed and loaded again as a pod loads it: its answers are those of the model itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pilothouse.api.parse import parse
from pilothouse_runtime.core.manifest import MANIFEST_FILE, parse_manifest
from pilothouse_runtime.digests import digest_of
from pilothouse_runtime.engine.exporting.served import Served
from pilothouse_runtime.engine.golden import read_golden
from pilothouse_runtime.engine.source import LocalFile
from pilothouse_runtime.pack import Packed, PackError, pack
from tests.support.trained_models import (
    Branching,
    Convolutional,
    Encoder,
    Plain,
    Recurrent,
    Several,
    Stubborn,
    Variational,
    examples,
)

FREE_LENGTH = {
    Recurrent: {"series": {1: "time"}},
    Encoder: {"tokens": {1: "length"}, "mask": {1: "length"}},
}
FAMILIES = [
    (Plain, "exported", ["x FP32 [-1, 4]"], ["output_0 FP32 [-1, 3]"]),
    (Convolutional, "exported", ["image FP32 [-1, 64]"], ["logits FP32 [-1, 10]"]),
    (Recurrent, "torchscript", ["series FP32 [-1, -1, 2]"], ["output_0 FP32 [-1, 1]"]),
    (
        Encoder,
        "exported",
        ["tokens INT64 [-1, -1]", "mask BOOL [-1, -1]"],
        ["output_0 FP32 [-1, 16]"],
    ),
    (
        Several,
        "exported",
        ["values FP32 [-1, 2]", "counts INT64 [-1]"],
        ["output_0 FP32 [-1, 2]", "output_1 INT64 [-1]", "output_2 BOOL [-1]"],
    ),
    (Branching, "torchscript", ["x FP32 [-1, 2]"], ["output_0 FP32 [-1, 2]"]),
]


def trained(kind: type[nn.Module]) -> nn.Module:
    """Return a model with the same weights in every test, in training mode, as training leaves it."""
    torch.manual_seed(3)
    return kind().train()


def offline(model: nn.Module, inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Return what the model itself answers."""
    with torch.inference_mode():
        result = model.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    leaves = (
        result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else [result]
    )
    return [leaf.numpy() for leaf in leaves]


def served(packed: Packed, inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    return list(Served(packed.folder).answers(inputs).values())


@pytest.mark.parametrize(("kind", "format_", "inputs", "outputs"), FAMILIES)
def test_what_is_served_is_what_was_trained(
    tmp_path: Path, kind: type[nn.Module], format_: str, inputs: list[str], outputs: list[str]
) -> None:
    model = trained(kind)
    packed = pack(model, examples(kind), tmp_path / "packed", dynamic=FREE_LENGTH.get(kind))
    assert model.training
    manifest = parse_manifest((tmp_path / "packed" / MANIFEST_FILE).read_bytes())
    assert manifest == packed.manifest
    assert manifest.format == format_
    assert list(map(str, manifest.signature.inputs)) == inputs
    assert list(map(str, manifest.signature.outputs)) == outputs
    assert packed.digest == digest_of(tmp_path / "packed")
    assert packed.difference < 1e-4
    # Other numbers, another number of rows, and another length than the examples had.
    fresh = {name: array[::-1][:3].copy() for name, array in examples(kind, rows=11).items()}
    if kind in FREE_LENGTH:
        fresh = {name: array[:, :5].copy() for name, array in fresh.items()}
    for got, want in zip(served(packed, fresh), offline(model, fresh), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, atol=1e-5)
    golden = read_golden(LocalFile(tmp_path / "packed/golden.npz"), needs_outputs=True)
    assert golden.rows == 6
    for got, want in zip(golden.outputs.values(), offline(model, examples(kind)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_why_it_is_torchscript_is_told(tmp_path: Path) -> None:
    packed = pack(trained(Branching), examples(Branching), tmp_path / "packed")
    (note,) = packed.notes
    assert note.startswith(
        "written as TorchScript, since torch.export does not take it: GuardOnDataDependent"
    )
    assert "trained_models.py" in note
    assert "if bool(x.sum() > 0):" in note
    # Both branches are in what was written.
    for sign in (1, -1):
        x = np.full((2, 2), sign, np.float32)
        np.testing.assert_allclose(served(packed, {"x": x})[0], x + sign)


def test_a_recurrent_network_is_exported_for_one_length_and_scripted_for_any(tmp_path: Path) -> None:
    fixed = pack(trained(Recurrent), examples(Recurrent), tmp_path / "fixed")
    assert (fixed.manifest.format, fixed.notes) == ("exported", ())
    assert list(map(str, fixed.manifest.signature.inputs)) == ["series FP32 [-1, 9, 2]"]
    free = pack(trained(Recurrent), examples(Recurrent), tmp_path / "free", dynamic={"series": {1: "time"}})
    assert "the model works for one size of time only, which is 9 in the examples" in free.notes[0]
    with pytest.raises(PackError, match="one size of time only"):
        pack(
            trained(Recurrent),
            examples(Recurrent),
            tmp_path / "no",
            dynamic={"series": {1: "time"}},
            format="exported",
        )


def test_what_neither_takes_is_refused_with_both_reasons_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(PackError) as caught:
        pack(trained(Stubborn), examples(Stubborn), tmp_path / "packed")
    told = str(caught.value)
    assert "torch.export does not take it: " in told
    assert "torch.jit.script does not take it: " in told
    assert "trained_models.py" in told
    assert list(tmp_path.iterdir()) == []


def test_random_outputs_are_sampled_as_offline_and_are_not_golden(tmp_path: Path) -> None:
    packed = pack(trained(Variational), examples(Variational), tmp_path / "packed")
    assert packed.manifest.format == "exported"
    assert [note.split("'")[1] for note in packed.notes] == ["reconstruction"]
    golden = read_golden(LocalFile(tmp_path / "packed/golden.npz"), needs_outputs=True)
    assert list(golden.outputs) == ["mean", "log_variance"]
    model = Served(packed.folder)
    first, second = (model.answers(examples(Variational), seed)["reconstruction"] for seed in (1, 2))
    assert np.abs(first - second).max() > 0.1


def test_random_numbers_go_on_for_who_packs(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = trained(Plain)
    torch.manual_seed(5)
    pack(model, examples(Plain), tmp_path / "packed")
    assert torch.equal(torch.rand(3), expected)


def test_names_and_labels_are_taken(tmp_path: Path) -> None:
    model = trained(Plain)
    rows = examples(Plain, rows=70)  # more than one batch of a validation
    labels = offline(model, rows)[0].argmax(1)
    labels[:7] = (labels[:7] + 1) % 3
    packed = pack(
        model,
        torch.from_numpy(rows["x"][:1]),  # one row, by position, as a tensor
        tmp_path / "Digits CNN",
        outputs=["logits"],
        golden_inputs=rows,
        golden_outputs={"logits": labels},
        version="2",
        preprocessing="scaled to 0..1",
        source="run 12",
    )
    assert packed.metrics == {"accuracy": pytest.approx(0.9)}
    assert packed.rows == 70
    golden = read_golden(LocalFile(tmp_path / "Digits CNN/golden.npz"), needs_outputs=True)
    np.testing.assert_array_equal(golden.outputs["logits"], labels)
    assert packed.manifest.preprocessing == "scaled to 0..1"
    assert packed.manifest.packed["from"] == "run 12"
    assert packed.manifest.packed["torch"] == torch.__version__


def test_the_deployment_is_one_that_the_operator_takes(tmp_path: Path) -> None:
    packed = pack(
        trained(Convolutional),
        examples(Convolutional),
        tmp_path / "Digits CNN",
        golden_outputs={"logits": np.zeros(6, np.int64)},
        version="2",
    )
    document = yaml.safe_load(packed.deployment)
    assert document["metadata"]["name"] == "digits-cnn"
    spec = parse(document)
    assert (spec.model.version, spec.model.digest, spec.model.format) == ("2", packed.digest, "exported")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in spec.model.outputs] == [
        ("logits", "FP32", [-1, 10])
    ]
    assert spec.rollout.validation.uri == f"{spec.model.uri}/golden.npz"
    assert spec.rollout.validation.digest == packed.manifest.files["golden.npz"]
    assert spec.rollout.validation.metric == "accuracy"
    assert spec.rollout.validation.min <= packed.metrics["accuracy"]


def test_the_deployment_says_how_drift_is_switched_on(tmp_path: Path) -> None:
    model, rows = trained(Plain), examples(Plain, rows=100)
    packed = pack(model, rows, tmp_path / "plain")
    assert parse(yaml.safe_load(packed.deployment)).runtime.drift is None
    spec = parse(yaml.safe_load(re.sub(r"(?m)^  # ", "  ", packed.deployment)))
    assert spec.runtime.drift is not None
    assert spec.runtime.drift.uri == f"{spec.model.uri}/golden.npz"
    assert spec.runtime.drift.digest == packed.manifest.files["golden.npz"]
    assert "drift" not in pack(model, {"x": rows["x"][:99]}, tmp_path / "few").deployment


@pytest.mark.parametrize("kind", [Convolutional, Branching])  # as exported, and as TorchScript
def test_the_same_model_has_the_same_digest(tmp_path: Path, kind: type[torch.nn.Module]) -> None:
    model, rows = trained(kind), examples(kind)
    one, other = (pack(model, rows, tmp_path / name) for name in ("one", "other"))
    assert one.digest == other.digest


def test_functions_methods_and_torchscript_are_models_too(tmp_path: Path) -> None:
    model = trained(Plain).eval()
    x = examples(Plain)["x"]
    want = torch.softmax(torch.from_numpy(offline(model, {"x": x})[0]), 1).numpy()

    def classify(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"shares": model(x).softmax(1)}

    packed = pack(classify, {"x": x}, tmp_path / "function")
    np.testing.assert_allclose(served(packed, {"x": x})[0], want, atol=1e-6)
    packed = pack(model.forward, {"x": x}, tmp_path / "method")
    np.testing.assert_allclose(served(packed, {"x": x})[0], offline(model, {"x": x})[0], atol=1e-6)
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(model)
    packed = pack(scripted, {"x": x}, tmp_path / "scripted", outputs=["y"])
    assert (packed.manifest.format, packed.notes) == ("torchscript", ())
    assert list(map(str, packed.manifest.signature.outputs)) == ["y FP32 [-1, 3]"]


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    packed = pack(trained(Plain), examples(Plain, rows=4), tmp_path / "packed", batch=False)
    assert list(map(str, packed.manifest.signature.inputs)) == ["x FP32 [4, 4]"]
    assert packed.rows == 4


class Positions(nn.Module):
    """Knows so many positions and no more, as Transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.arange(12.0))

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return series + self.positions[None, : series.shape[1]]


def test_a_limit_of_a_free_size_is_found_and_told(tmp_path: Path) -> None:
    series = np.ones((2, 5), np.float32)
    packed = pack(Positions(), series, tmp_path / "packed", dynamic={"series": {1: "length"}})
    assert packed.manifest.format == "exported"
    assert packed.notes == ("length is at most 12, as torch.export found",)
    long = np.ones((1, 12), np.float32)
    np.testing.assert_allclose(served(packed, {"series": long})[0], long + np.arange(12))
    with pytest.raises(PackError, match="the packed model fails on series"):
        Served(packed.folder).answers({"series": np.ones((1, 13), np.float32)})


class Latest(nn.Module):
    """Looks at the last four of any number, which torch exports as another program where they are all."""

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return series[:, -4:].contiguous().sum(1)


def test_a_least_size_that_is_exported_otherwise_is_left_out(tmp_path: Path) -> None:
    series = np.arange(16, dtype=np.float32).reshape(2, 8)
    packed = pack(Latest(), series, tmp_path / "packed", dynamic={"series": {1: "length"}})
    assert packed.manifest.format == "exported"
    assert packed.notes == ("length is at least 5, as torch.export found",)
    np.testing.assert_allclose(served(packed, {"series": series[:, :5]})[0], series[:, 1:5].sum(1))
    with pytest.raises(PackError, match="the packed model fails on series"):
        Served(packed.folder).answers({"series": series[:, :4]})


class Halves(nn.Module):
    """Answers in BF16, and takes FP16."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"double": (x * 2).to(torch.bfloat16)}


def test_halves_are_served_and_golden_in_what_files_know(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 6, dtype=np.float16).reshape(3, 2)
    packed = pack(Halves(), {"x": x}, tmp_path / "packed")
    assert list(map(str, packed.manifest.signature.outputs)) == ["double BF16 [-1, 2]"]
    golden = read_golden(LocalFile(tmp_path / "packed/golden.npz"), needs_outputs=True)
    np.testing.assert_allclose(golden.outputs["double"], x * 2, rtol=1e-2)
    assert golden.outputs["double"].dtype == np.float32


class Counting(nn.Module):
    """Has a length, of 0, so that it is false where somebody asks whether it is there."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.9))

    def __len__(self) -> int:
        return 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return] # what a module returns is Any to torch


def test_a_module_that_is_false_is_one_nevertheless(tmp_path: Path) -> None:
    network = trained(Counting)
    packed = pack(network, examples(Plain), tmp_path / "packed")
    assert network.training
    assert not packed.notes, "its dropout is off"
    with torch.inference_mode():
        want = network.eval()(torch.from_numpy(examples(Plain)["x"])).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "packed/golden.npz")["output.output_0"], want, atol=1e-6)


def test_what_was_compiled_for_its_own_process_is_packed_as_it_was_before(tmp_path: Path) -> None:
    network = trained(Plain)
    before = pack(network, examples(Plain), tmp_path / "before", source="here")
    compiled = pack(
        torch.compile(network, backend="eager"), examples(Plain), tmp_path / "compiled", source="here"
    )
    assert compiled.digest == before.digest
    packed = pack(torch.compile(lambda x: x * 2, backend="eager"), examples(Plain), tmp_path / "function")
    assert (packed.manifest.format, packed.difference) == ("exported", 0)
