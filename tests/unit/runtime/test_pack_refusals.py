"""What is not packed, and how its user is told: the argument, the rule, and what to do."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pilothouse_runtime.engine.exporting.weights import load_weights
from pilothouse_runtime.pack import PackError, pack
from pilothouse_runtime.pack.references import resolve
from pilothouse_runtime.pack.samples import read_examples, read_golden_file
from tests.support.tiny_models import Bomb, bomb, save_affine, save_torchscript, torch_bomb
from tests.support.trained_models import Plain, Several, examples
from tests.support.written_models import affine_onnx, save_onnx

X = examples(Plain)["x"]
HOLED = np.where(np.arange(6)[:, None] == 2, np.float32(np.nan), X)


class Memory(nn.Module):
    """Answers otherwise once it has been exported: the first example is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + (100 if torch.compiler.is_exporting() else 0)


class Fixed(nn.Module):
    """Takes six rows only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(6, 4) + 1


class Text(nn.Module):
    """Returns what no protocol carries."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"y": x, "told": "a text"}


class Complex(nn.Module):
    """Returns complex numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x)


@pytest.mark.parametrize(
    ("model", "inputs", "options", "told"),
    [
        (Plain, X, {}, "model: is the class Plain; give an object of it, Plain()"),
        ({"weights": 1}, X, {}, "model: must be a module or a function, and is a dict"),
        (type("Sequential", (Plain,), {"__module__": "keras.src.models"})(), X, {}, "model: is a Keras model; save it"),
        (Plain(), {"image": X}, {}, "example_inputs: 'image' is no argument of the model, which takes x"),
        (Plain(), {}, {}, "example_inputs: must hold an array"),
        (Plain(), (X, X), {}, "example_inputs: are 2, but the model takes x"),
        (Plain(), {"x": [[1.0]]}, {}, "example_inputs: 'x' is a list; give a numpy array or a tensor"),
        (Plain(), {"x": np.array(["a"])}, {}, "example_inputs: 'x' is of type <U1; use bool, integers or floats"),
        (Plain(), {"x": X.astype(complex)}, {}, "'x' is of type complex128; use bool, integers or floats"),
        (Plain(), {"x": X.astype(np.float64)}, {}, "are 64 bits meant? If not: array.astype(numpy.float32)"),
        (Plain(), {"x": X[:, :3]}, {}, "model: fails on x float32 [6, 3]: RuntimeError: mat1 and mat2 shapes"),
        (Plain(), {"x": np.array(1, np.float32)}, {}, "'x' has no dimension, so no rows; give batch=False"),
        (Plain(), {"x": X[:0]}, {}, "example_inputs: batch is 0 in 'x'"),
        (Several(), {"values": X[:, :2], "counts": np.arange(3)}, {}, "batch is 6 in 'values' and 3 in 'counts'"),
        (Fixed(), X, {}, "batch cannot be free (batch=False, --fixed-batch): the model takes the examples, but not"),
        (Text(), X, {}, "model: returns told of type str; a served model returns tensors"),
        (Complex(), X, {}, "output_0 is complex64, which cannot be sent"),
        (Plain(), X, {"outputs": ["a", "b"]}, "outputs: are 2 names, the model returns 1"),
        (Plain(), X, {"dynamic": {"y": {1: "n"}}}, "dynamic: there is no input 'y'; there is x"),
        (Plain(), X, {"dynamic": {"x": {2: "n"}}}, "dynamic: 'x' has the shape [6, 4], and no dimension 2"),
        (Plain(), X, {"dynamic": {"x": {1: "n n"}}}, "dynamic: 'n n' must be a name"),
        (Plain(), X, {"dynamic": {"x": {1: "n"}}}, "n cannot be free: the model takes the examples, but"),
        (Plain(), X, {"name": "Digits"}, "name: 'Digits' must be lower-case letters, digits and -"),
        (Plain(), X, {"format": "onnx"}, "format: 'onnx' is none of auto, exported, torchscript"),
        (Plain(), X, {"tolerance": -1}, "tolerance: -1 must be 0 or more"),
        (Plain(), X, {"golden_inputs": {"y": X}}, "golden_inputs: inputs: the model has no input 'y'"),
        (Plain(), X, {"golden_inputs": X[:, :2]}, "golden_inputs: input 'x': expected shape [-1, 4], got [6, 2]"),
        (Plain(), X, {"golden_outputs": {"y": X}}, "golden_outputs: the model has no output 'y'; it gives output_0"),
        (Plain(), X, {"golden_outputs": {"output_0": np.zeros(5)}}, "has the shape [5] for 6 rows of inputs"),
        (Plain(), X, {"golden_outputs": {"output_0": np.zeros((6, 2, 2))}}, "golden_outputs: output 'output_0' has"),
        (Plain(), X, {"golden_inputs": HOLED, "golden_outputs": {"output_0": np.zeros(6, int)}},
         "golden_inputs: output 'output_0' of row 2 holds NaN or infinity in the answer, so that no model"),
        (Memory(), X, {}, "from the offline answer to the example inputs; tolerance allows 0.0001"),
        (lambda x: (x, x.sum()), X, {"batch": False, "golden_inputs": X}, "golden_inputs: no golden data set"),
    ],
)  # fmt: skip
def test_wrong_use_is_told_and_nothing_is_left(
    tmp_path: Path, model: Any, inputs: Any, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(PackError) as caught:
        pack(model, inputs, tmp_path / "models/packed", **options)
    assert told in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("mine.pkl", lambda path: path.write_bytes(bomb(path.parent / "mark")), "a pickle"),
        ("mine.joblib", lambda path: path.write_bytes(bomb(path.parent / "mark")), "a pickle"),
        ("mine.pt", lambda path: path.write_bytes(torch_bomb(path.parent / "mark")), "torch.save"),
        ("weights.safetensors", lambda path: save_file({"a": torch.ones(1)}, path), "holds weights only;"),
        ("notes.txt", lambda path: path.write_text("hello"), "a text file"),
        ("empty.pt2", lambda path: path.write_bytes(b""), "an empty file"),
    ],
)  # fmt: skip
def test_files_that_are_no_models_are_refused_and_run_nothing(
    tmp_path: Path, name: str, write: Callable[[Path], object], told: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(PackError) as caught:
        pack(tmp_path / name, {"x": X}, tmp_path / "packed")
    assert told in str(caught.value)
    assert name in str(caught.value), "as its user calls it"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_model_files_are_copied_and_proved(tmp_path: Path) -> None:
    x = {"x": np.ones((4, 3), np.float32)}
    for file, signature in (
        (save_affine(tmp_path / "affine.pt2"), ("x FP32 [-1, 3]", "output_0 FP32 [-1, 2]")),
        (save_torchscript(nn.Linear(3, 2), tmp_path / "bare.pt", None), ("x FP32 [-1, 3]", "output_0 FP32 [-1, 2]")),
        (save_onnx(tmp_path / "graph.onnx", affine_onnx()), ("x FP32 [-1, 3]", "y FP32 [-1, 2]")),
    ):  # fmt: skip
        packed = pack(file, x, tmp_path / f"{file.stem}-packed")
        assert (tmp_path / f"{file.stem}-packed" / f"model{file.suffix}").read_bytes() == file.read_bytes()
        found = packed.manifest.signature
        assert (str(*found.inputs), str(*found.outputs)) == signature
        assert packed.rows == 4
    with pytest.raises(PackError, match="outputs: is for modules and functions"):
        pack(tmp_path / "affine.pt2", x, tmp_path / "no", outputs=["y"])
    with pytest.raises(PackError, match=r"no-such.pt is no file"):
        pack(tmp_path / "no-such.pt", x, tmp_path / "no")
    with pytest.raises(PackError, match="is a folder; one file is packed"):
        pack(tmp_path, x, tmp_path / "no")
    with pytest.raises(PackError, match=r"input 'x': expected shape \[-1, 3\], got \[4, 2\]"):
        pack(tmp_path / "affine.pt2", {"x": np.ones((4, 2), np.float32)}, tmp_path / "no")


def test_a_folder_is_replaced_if_it_was_packed_and_never_unasked_if_not(tmp_path: Path) -> None:
    target = tmp_path / "packed"
    first = pack(Plain(), X, target)
    second = pack(Plain(), X, target)  # other weights
    assert first.digest != second.digest
    (target / "notes.txt").write_text("mine")
    with pytest.raises(
        PackError, match=r"folder: .* holds notes.txt, which pack did not write; give another"
    ):
        pack(Plain(), X, target)
    assert (target / "notes.txt").read_text() == "mine"
    pack(Plain(), X, target, force=True)
    assert sorted(path.name for path in target.iterdir()) == ["golden.npz", "model.pt2", "pilothouse.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackError, match="is there and is no folder"):
        pack(Plain(), X, tmp_path / "file")
    with pytest.raises(PackError, match="folder: cannot write"):
        pack(Plain(), X, tmp_path / "file/packed")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(PackError, match="holds the current directory"):
        pack(Plain(), X, ".", force=True)


def test_references_are_imported_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packed_by_reference.py").write_text(
        "class A:\n    b = 3\ndef make():\n    return 4\ndef bad():\n    1 / 0\n"
    )
    (tmp_path / "broken_by_reference.py").write_text("raise RuntimeError('no GPU here')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert resolve("packed_by_reference:A.b") == 3
    assert resolve("packed_by_reference:make()") == 4
    for text, told in (
        ("packed_by_reference:nope", "there is no 'nope' in packed_by_reference"),
        (
            "packed_by_reference:bad()",
            "packed_by_reference:bad() failed: ZeroDivisionError: division by zero",
        ),
        ("broken_by_reference:model", "importing broken_by_reference failed: RuntimeError: no GPU here"),
        ("no_such_module:model", "there is no module 'no_such_module'; it is looked for from"),
        ("a-b", "is neither a file nor module:attribute"),
    ):
        with pytest.raises(PackError) as caught:
            resolve(text)
        assert told in str(caught.value)


def test_examples_are_read_without_unpickling(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", x=X)
    np.savez(tmp_path / "golden.npz", **{"input.x": X, "output.y": X})
    np.savez(tmp_path / "objects.npz", allow_pickle=True, x=np.array([Bomb(tmp_path / "mark")], dtype=object))
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    for name in ("plain.npz", "golden.npz"):
        np.testing.assert_array_equal(read_examples(tmp_path / name)["x"], X)
    assert list(read_golden_file(tmp_path / "golden.npz").outputs) == ["y"]
    for name, told in (
        ("objects.npz", "Object arrays cannot be loaded"),
        ("single.npy", "is a single array"),
        (
            "pickle.npz",
            "is not read as .npz: it is a pickle .*, which could run any code and is never loaded; write",
        ),
        ("no-such.npz", "No such file"),
    ):
        with pytest.raises(PackError, match=told):
            read_examples(tmp_path / name)
        with pytest.raises(PackError, match=name):
            read_golden_file(tmp_path / name)
    assert not (tmp_path / "mark").exists()


def test_weights_must_be_those_of_the_module(tmp_path: Path) -> None:
    source, target = Plain(), Plain()
    save_file(source.state_dict(), tmp_path / "right.safetensors")
    load_weights(target, tmp_path / "right.safetensors")
    assert all(torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items())
    save_file({"layers.0.weight": torch.zeros(8, 4), "other": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, told in (
        ("other.safetensors", r"it lacks layers.0.bias, .* no place for other"),
        ("text.safetensors", "is not read as safetensors: .* Where torch.save wrote it, load it in Python"),
    ):
        with pytest.raises(PackError, match=told):
            load_weights(Plain(), tmp_path / name)
    with pytest.raises(PackError, match="weights: are for a module"):
        load_weights(len, tmp_path / "right.safetensors")
