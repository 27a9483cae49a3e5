"""Loading and running models in this process: signatures, warm-up, odd but honest models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor as TorchTensor
from torch import nn

from pilothouse_runtime.core.errors import Code, LoadError, RequestError
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.backends import exported, torchscript
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.tiny_models import AFFINE_SIGNATURE, Affine, rewritten, save_exported, save_torchscript

CPU = torch.device("cpu")
DIM = torch.export.Dim
X = np.array([[1, 2, 3], [0, 1, 0]], dtype=np.float32)
Y = np.array([[14.5, 1.5], [2.5, -0.5]], dtype=np.float32)


def fp32(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, Datatype.FP32, shape)


def tensor(name: str, array: np.ndarray[Any, Any], datatype: Datatype = Datatype.FP32) -> Tensor:
    return Tensor(name, datatype, array)


def warmed(model: LoadedModel) -> LoadedModel:
    warm_up(model)
    return model


@pytest.mark.parametrize("name", ["affine.pt", "affine.pt2", "bare.pt"])
def test_both_formats_give_what_the_model_gives(models: Path, name: str) -> None:
    load = exported.load if name.endswith("2") else torchscript.load
    outputs = warmed(load(models / name, CPU, None)).run([tensor("x", X)])
    assert [output.datatype for output in outputs] == [Datatype.FP32]
    np.testing.assert_allclose(outputs[0].array, Y)


def test_where_signatures_come_from(models: Path) -> None:
    described = Signature((fp32("x", -1, 3),), (fp32("y", -1, 2),))
    assert torchscript.load(models / "affine.pt", CPU, None).signature == described
    assert torchscript.load(models / "bare.pt", CPU, None).signature is None
    assert torchscript.load(models / "bare.pt", CPU, described).signature == described
    assert exported.load(models / "affine.pt2", CPU, None).signature == Signature(
        described.inputs, (fp32("output_0", -1, 2),)
    )
    assert exported.load(models / "affine.pt2", CPU, described).signature == described
    narrow = Signature((fp32("x", 4, 3),), (fp32("y", 4, 2),))
    assert exported.load(models / "affine.pt2", CPU, narrow).signature == narrow


@pytest.mark.parametrize("name", ["affine.pt", "affine.pt2"])
@pytest.mark.parametrize(
    "declared", [Signature((fp32("x", -1, 4),), ()), Signature((fp32("image", -1, 3),), ())]
)
def test_contradicting_the_file(models: Path, name: str, declared: Signature) -> None:
    load = exported.load if name.endswith("2") else torchscript.load
    with pytest.raises(
        LoadError, match=r"model.inputs and model.outputs contradict the file: inputs: "
    ) as caught:
        load(models / name, CPU, declared)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (Signature((fp32("x", -1, 4),), ()), r"warm-up with x FP32 \[1, 4\]: .*cannot be multiplied"),
        (Signature((fp32("x", -1, 3), fp32("z", 1)), ()), "the inputs x, z, but the model's forward takes x"),
        (
            Signature((fp32("x", -1, 3),), (fp32("y", -1, 5),)),
            r"output 'y' should be FP32 \[-1, 5\], .* FP32 \[1, 2\]",
        ),
        (
            Signature((fp32("x", -1, 3),), (fp32("y", -1, 2), fp32("z", 1))),
            "it is output_0; the signature has y, z",
        ),
        (Signature((TensorSpec("x", Datatype.INT64, (-1, 3)),), ()), "do not fit the model"),
        (Signature((TensorSpec("x", Datatype.BYTES, (-1, 3)),), ()), "BYTES cannot be given to a model"),
    ],
)
def test_declared_signatures_that_do_not_fit(models: Path, declared: Signature, told: str) -> None:
    with pytest.raises(LoadError, match=told) as caught:
        warm_up(torchscript.load(models / "bare.pt", CPU, declared))
    assert caught.value.permanent


def test_the_signature_in_the_archive_is_checked(models: Path, tmp_path: Path) -> None:
    file = rewritten(
        models / "affine.pt", tmp_path / "a.pt", lambda n, old: b"{" if n.startswith("extra/") else old
    )
    with pytest.raises(LoadError, match=r"the signature\.json in the archive: is not JSON"):
        torchscript.load(file, CPU, None)


class Minus(nn.Module):
    """Order matters."""

    def forward(self, left: TorchTensor, right: TorchTensor) -> dict[str, TorchTensor]:
        return {"difference": left - right, "sum": left + right}


def test_torchscript_inputs_find_their_arguments_by_name(tmp_path: Path) -> None:
    file = save_torchscript(Minus(), tmp_path / "minus.pt", None)
    declared = Signature((fp32("right", -1), fp32("left", -1)), (fp32("sum", -1), fp32("difference", -1)))
    model = warmed(torchscript.load(file, CPU, declared))
    assert model.signature is not None
    values = {"left": np.array([5], np.float32), "right": np.array([3], np.float32)}
    outputs = model.run([tensor(spec.name, values[spec.name]) for spec in model.signature.inputs])
    assert {output.name: output.array.tolist() for output in outputs} == {"sum": [8], "difference": [2]}
    assert [output.name for output in outputs] == ["sum", "difference"]


class Nested(nn.Module):
    """A tree of arguments and results."""

    def forward(
        self, pair: dict[str, TorchTensor], more: list[TorchTensor], *, factor: float = 2.0
    ) -> tuple[TorchTensor, dict[str, TorchTensor]]:
        return pair["a"] * factor, {"rest": pair["b"] + more[0]}


def test_trees_of_arguments_and_results(tmp_path: Path) -> None:
    program = torch.export.export(
        Nested(), ({"a": torch.ones(2), "b": torch.ones(2)}, [torch.ones(2)]), {"factor": 3.0}
    )
    torch.export.save(program, str(tmp_path / "nested.pt2"))
    model = warmed(exported.load(tmp_path / "nested.pt2", CPU, None))
    assert model.signature == Signature(
        (fp32("pair_a", 2), fp32("pair_b", 2), fp32("more_0", 2)), (fp32("output_0", 2), fp32("1.rest", 2))
    )
    outputs = model.run([tensor(f"i{i}", np.full(2, i, np.float32)) for i in (1, 2, 3)])
    assert [output.array.tolist() for output in outputs] == [[3, 3], [5, 5]]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids: TorchTensor) -> dict[str, TorchTensor]:
        return {"out": self.layer(self.embed(ids))}


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"layer-1": nn.Conv2d(3, 4, 5), "norm": nn.BatchNorm2d(4)})

    def forward(self, image: TorchTensor) -> dict[str, TorchTensor]:
        return {"out": self.parts["norm"](self.parts["layer-1"](image)).mean((2, 3))}


class Choice(nn.Module):
    def forward(self, x: TorchTensor) -> dict[str, TorchTensor]:
        return {"out": torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))}


@pytest.mark.parametrize(
    ("module", "example", "shapes", "taken", "refused"),
    [
        (
            Attention(),
            torch.zeros(2, 7, dtype=torch.int64),
            {0: DIM("b"), 1: DIM("s", min=4, max=9)},
            (3, 9),
            (3, 10),
        ),
        (
            Image(),
            torch.zeros(2, 3, 9, 9),
            {0: DIM("b"), 2: DIM("h", min=8), 3: DIM("w", min=8)},
            (1, 3, 8, 20),
            (1, 3, 7, 8),
        ),
        (Choice(), torch.ones(4, 3), {0: 2 * DIM("half", min=1, max=9)}, (6, 3), (5, 3)),
        (Choice(), torch.ones(4, 3), {0: DIM.AUTO}, (1, 3), None),
    ],
)
def test_free_sizes_and_their_ranges(
    tmp_path: Path,
    module: nn.Module,
    example: TorchTensor,
    shapes: Any,
    taken: tuple[int, ...],
    refused: tuple[int, ...] | None,
) -> None:
    module.eval()
    file = save_exported(module, tmp_path / "m.pt2", (example,), (shapes,))
    model = warmed(exported.load(file, CPU, None))
    assert model.signature is not None
    spec = model.signature.inputs[0]
    zeros = torch.zeros(taken, dtype=example.dtype)
    expected = module(zeros)["out"].detach().numpy()
    np.testing.assert_allclose(
        model.run([Tensor("", spec.datatype, zeros.numpy())])[0].array, expected, rtol=1e-5
    )
    if refused:
        with pytest.raises(RequestError, match="do not fit the model") as caught:
            model.run([Tensor("", spec.datatype, np.zeros(refused, spec.datatype.dtype))])
        assert caught.value.code is Code.INVALID_ARGUMENT


class Pooled(nn.Module):
    """Too small an image fails in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 1, 7), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: TorchTensor) -> TorchTensor:
        return self.layers(x).flatten(1)


def test_warm_up_tries_larger_inner_sizes(tmp_path: Path) -> None:
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1, -1, -1]}]}
    warm_up(torchscript.load(save_torchscript(Pooled(), tmp_path / "p.pt", signature), CPU, None))


class OnlyOne(nn.Module):
    """Takes no batch, whatever its signature says."""

    def forward(self, x: TorchTensor) -> TorchTensor:
        return x.reshape(1, 3)


def test_a_batch_that_is_none_is_found_at_warm_up(tmp_path: Path) -> None:
    file = save_torchscript(OnlyOne(), tmp_path / "one.pt", AFFINE_SIGNATURE | {"outputs": []})
    with pytest.raises(LoadError, match=r"warm-up with x FP32 \[2, 3\]: .*invalid for input of size"):
        warm_up(torchscript.load(file, CPU, None))


class Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: TorchTensor) -> TorchTensor:
        return x.to(self.dtype)


ROUND_TRIP = {
    torch.bool: Datatype.BOOL,
    torch.uint8: Datatype.UINT8,
    torch.uint16: Datatype.UINT16,
    torch.uint32: Datatype.UINT32,
    torch.uint64: Datatype.UINT64,
    torch.int8: Datatype.INT8,
    torch.int16: Datatype.INT16,
    torch.int32: Datatype.INT32,
    torch.int64: Datatype.INT64,
    torch.float16: Datatype.FP16,
    torch.bfloat16: Datatype.BF16,
    torch.float32: Datatype.FP32,
    torch.float64: Datatype.FP64,
}


@pytest.mark.parametrize(("dtype", "datatype"), ROUND_TRIP.items())
def test_datatypes(tmp_path: Path, dtype: torch.dtype, datatype: Datatype) -> None:
    file = save_exported(Cast(dtype), tmp_path / "cast.pt2", (torch.zeros(2, dtype=dtype),), None)
    model = warmed(exported.load(file, CPU, None))
    array = np.array([0, 1], datatype.dtype)
    output = model.run([Tensor("x", datatype, array)])[0]
    assert (output.datatype, output.array.dtype, output.array.tolist()) == (
        datatype,
        array.dtype,
        array.tolist(),
    )


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    file = save_exported(Cast(torch.complex64), tmp_path / "cast.pt2", (torch.zeros(2),), None)
    with pytest.raises(
        LoadError, match="output_0 is complex64, which cannot be sent; convert it in the model"
    ):
        exported.load(file, CPU, None)


class Number(nn.Module):
    def forward(self, x: TorchTensor) -> tuple[TorchTensor, int]:
        return x, 5


def test_results_that_are_no_tensors(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="output_1 is not a tensor"):
        exported.load(save_exported(Number(), tmp_path / "n.pt2", (torch.zeros(2),), None), CPU, None)
    model = torchscript.load(save_torchscript(Number(), tmp_path / "n.pt", None), CPU, None)
    with pytest.raises(RequestError, match="output_1 is of type int; a model returns tensors") as caught:
        model.run([tensor("x", X)])
    assert caught.value.code is Code.INTERNAL


def test_read_only_arrays_are_not_written_to(models: Path) -> None:
    array = X.copy()
    array.flags.writeable = False
    np.testing.assert_allclose(
        torchscript.load(models / "bare.pt", CPU, None).run([tensor("x", array)])[0].array, Y
    )


@pytest.mark.parametrize("name", ["affine.pt", "affine.pt2"])
def test_archives_with_holes(models: Path, tmp_path: Path, name: str) -> None:
    load = exported.load if name.endswith("2") else torchscript.load
    gone = "data/weights/weight_0" if name.endswith("2") else "data/0"
    file = rewritten(models / name, tmp_path / name, lambda member, old: None if member == gone else old)
    with pytest.raises(LoadError, match="torch cannot load this") as caught:
        load(file, CPU, None)
    assert caught.value.permanent


def test_affine_is_what_it_says() -> None:
    with torch.inference_mode():
        np.testing.assert_allclose(Affine()(torch.from_numpy(X)).numpy(), Y)
