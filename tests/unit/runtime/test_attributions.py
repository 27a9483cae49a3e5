"""Attributions of real models are what Captum gives when it is asked directly, and odd requests say what is odd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, IntegratedGradients, Occlusion
from sklearn.datasets import load_digits
from torch import Tensor as TorchTensor
from torch import nn

from examples.digits.train import ConvolutionalNetwork, PlainNetwork, fit, logits
from examples.digits.train import save_torchscript as save_digits
from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.explaining import Explanation, Method, Options
from pilothouse_runtime.core.settings import Device
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.attributions import attribute
from pilothouse_runtime.engine.backends import exported, onnx, torchscript
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.model import Options as LoadOptions
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.tiny_models import save_exported, save_torchscript
from tests.support.written_models import save_onnx

CPU = torch.device("cpu")
EXPLAINED = LoadOptions(gradients=True)  # as with runtime.explain: nothing is fused
ROWS = 3


def digits() -> TorchTensor:
    return torch.from_numpy(load_digits().data[:200].astype(np.float32))


@pytest.fixture(scope="module", params=["torchscript", "exported"])
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, LoadedModel]:
    """A network that knows digits a little, and the same as it is served: warmed up, frozen."""
    torch.manual_seed(1)
    images, labels = digits(), torch.from_numpy(load_digits().target[:200])
    network = PlainNetwork() if request.param == "torchscript" else ConvolutionalNetwork()
    fit(network, images, labels, epochs=2)
    folder = tmp_path_factory.mktemp("digits")
    if request.param == "torchscript":
        save_digits(network, folder / "digits.pt")
        model: LoadedModel = torchscript.load(folder / "digits.pt", CPU, None, EXPLAINED)
    else:
        batch = torch.export.Dim("batch")
        path = save_exported(network, folder / "digits.pt2", (images[:2],), {"image": {0: batch}})
        model = exported.load(path, CPU, None, EXPLAINED)
    warm_up(model, 32)
    return network, model


def image(rows: int = ROWS) -> list[Tensor]:
    return [Tensor("image", Datatype.FP32, digits()[:rows].numpy())]


def explain(model: LoadedModel, inputs: list[Tensor], batch_rows: int = 32, **options: Any) -> Explanation:
    return attribute(model, inputs, Options(**options), batch_rows, lambda: None)


@pytest.mark.parametrize(
    ("options", "direct"),
    [
        (
            {"method": Method.INTEGRATED_GRADIENTS, "steps": 20, "baseline": 2},
            lambda run, x, target: IntegratedGradients(run).attribute(x, 2.0, target, n_steps=20),
        ),
        (
            {"method": Method.OCCLUSION, "window": 8, "strides": 4},
            lambda run, x, target: Occlusion(run).attribute(x, (8,), 4, target=target),
        ),
        (
            {"method": Method.FEATURE_ABLATION, "baseline": [16.0] * 64},
            lambda run, x, target: FeatureAblation(run).attribute(x, 16.0, target),
        ),
    ],
    ids=lambda value: str(value["method"]) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("target", [7, (1, 2, 3), None], ids=["one", "each", "best"])
def test_attributions_are_captums(
    trained: tuple[nn.Module, LoadedModel],
    options: dict[str, Any],
    direct: Callable[..., TorchTensor],
    target: Any,
) -> None:
    network, model = trained
    x = digits()[:ROWS]
    classes = [7] * ROWS if target == 7 else [*(target or logits(network, x).argmax(1).tolist())]
    explanation = explain(model, image(), target=target, **options)
    want = direct(lambda given: logits(network, given), x, torch.tensor(classes)).detach().numpy()
    (got,) = explanation.attributions
    assert explanation.target == tuple(classes)
    assert (got.name, got.datatype, got.array.shape) == ("image", Datatype.FP32, (ROWS, 64))
    np.testing.assert_allclose(got.array, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_integrated_gradients_are_complete(trained: tuple[nn.Module, LoadedModel]) -> None:
    """The attributions of each row add up to what the input changed in the answer (the axiom of completeness)."""
    network, model = trained
    explanation = explain(model, image(), steps=300, target=3)
    with torch.no_grad():
        changed = (logits(network, digits()[:ROWS]) - logits(network, torch.zeros(ROWS, 64)))[:, 3].numpy()
    summed = explanation.attributions[0].array.sum(axis=1)
    assert explanation.delta is not None
    np.testing.assert_allclose(summed, changed, atol=0.01 * np.abs(changed).max() + 0.01)
    np.testing.assert_allclose(explanation.delta, summed - changed, atol=1e-3)


def test_answers_stay_what_they_are(trained: tuple[nn.Module, LoadedModel]) -> None:
    _, model = trained
    before = model.run(image())[0].array.copy()
    explain(model, image(), steps=5)
    np.testing.assert_array_equal(model.run(image())[0].array, before)


class Pair(nn.Module):
    """Two inputs of floating point and one that counts; two outputs."""

    def forward(self, left: TorchTensor, right: TorchTensor, counts: TorchTensor) -> dict[str, TorchTensor]:
        product = (left * right.unsqueeze(1)).sum(1) * counts.double()
        return {"product": product, "raised": counts + 1}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    example = (torch.ones(2, 3), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.int64))
    batch = {0: torch.export.Dim("batch")}
    path = tmp_path_factory.mktemp("pair") / "pair.pt2"
    save_exported(Pair(), path, example, {"left": batch, "right": batch, "counts": batch})
    return exported.load(path, CPU, None, EXPLAINED)


def three() -> list[Tensor]:
    return [
        Tensor("left", Datatype.FP32, np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)),
        Tensor("right", Datatype.FP64, np.array([2.0, 10.0])),
        Tensor("counts", Datatype.INT64, np.array([1, 3])),
    ]


@pytest.mark.parametrize("batch_rows", [1, 2, 32])
def test_every_float_input_gets_its_share_and_integers_are_kept(pair: LoadedModel, batch_rows: int) -> None:
    explanation = explain(pair, three(), batch_rows, method=Method.FEATURE_ABLATION, output="product")
    left, right = explanation.attributions
    assert (left.datatype, right.datatype, explanation.target) == (Datatype.FP32, Datatype.FP64, ())
    np.testing.assert_allclose(left.array, [[2, 4, 6], [120, 150, 180]])
    np.testing.assert_allclose(right.array, [12, 450])
    explanation = explain(pair, three(), batch_rows, output="product", baseline={"right": 1.0})
    np.testing.assert_allclose(
        sum(t.array.reshape(2, -1).sum(1) for t in explanation.attributions), [12, 450], rtol=1e-5
    )


class Cut(nn.Module):
    def forward(self, x: TorchTensor) -> TorchTensor:
        return (x * 2).detach()


class Steps(nn.Module):
    def forward(self, x: TorchTensor) -> TorchTensor:
        return (x > 0).float()


class Quiet(nn.Module):
    def forward(self, x: TorchTensor) -> TorchTensor:
        with torch.no_grad():
            return x * 2


class Dice(nn.Module):
    def forward(self, x: TorchTensor) -> TorchTensor:
        return x + torch.rand_like(x)


class Sums(nn.Module):
    def forward(self, x: TorchTensor) -> TorchTensor:
        return x.sum(0)


ROW = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}], "outputs": []}


def scripted(module: nn.Module, folder: Path) -> LoadedModel:
    return torchscript.load(save_torchscript(module, folder / "model.pt", ROW), CPU, None)


def x_of(rows: int = 2) -> list[Tensor]:
    return [Tensor("x", Datatype.FP32, np.arange(1, 1 + 3 * rows, dtype=np.float32).reshape(rows, 3))]


@pytest.mark.parametrize("module", [Cut(), Steps(), Quiet()], ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("form", ["torchscript", "exported"])
def test_a_model_without_gradients_can_still_be_occluded(
    module: nn.Module, form: str, tmp_path: Path
) -> None:
    if form == "torchscript":
        model = scripted(module, tmp_path)
    else:
        batch = {"x": {0: torch.export.Dim("batch")}}
        model = exported.load(
            save_exported(module, tmp_path / "m.pt2", (torch.ones(2, 3),), batch), CPU, None
        )
    with pytest.raises(
        RequestError, match=rf"needs gradients, and this model \({form}\) gives none: .*; use occlusion"
    ):
        explain(model, x_of(), target=1)
    explanation = explain(model, x_of(), target=1, method=Method.OCCLUSION, window=1)
    np.testing.assert_allclose(explanation.attributions[0].array[:, [0, 2]], 0)
    assert (explanation.attributions[0].array[:, 1] > 0).all()


def test_a_model_that_torch_does_not_run_can_be_occluded(tmp_path: Path) -> None:
    model = onnx.load(save_onnx(tmp_path / "affine.onnx"), Device.CPU, None)
    with pytest.raises(
        RequestError, match=r"this model \(onnx\) gives none: it is not run by torch; use occlusion"
    ):
        explain(model, x_of())
    explanation = explain(model, x_of(), target=0, method=Method.FEATURE_ABLATION)
    np.testing.assert_allclose(explanation.attributions[0].array, [[1, 4, 9], [4, 10, 18]], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"output": "other"}, "the model has no output 'other'; it has output_0"),
        ({"target": 2}, r"target: is 2; output 'output_0' has 2 there, from 0 to 1"),
        ({"target": -1}, "target: is -1"),
        ({"target": (0, 1, 0)}, "target: has 3 classes for 2 rows"),
        ({"baseline": "nothing"}, "baseline of 'x': must be a number, or the numbers of one row"),
        ({"baseline": [1, 2]}, r"baseline of 'x': has 2 numbers; a row of shape \[3\] has 3"),
        ({"baseline": {"y": 0}}, "baseline: there is no floating-point input 'y'; there is x"),
        ({"method": Method.OCCLUSION}, "window: occlusion needs one"),
        ({"method": Method.OCCLUSION, "window": [4]}, r"window of 'x': .* at most \[3\]"),
        ({"method": Method.OCCLUSION, "window": 0}, "window of 'x'"),
        ({"method": Method.OCCLUSION, "window": 2, "strides": [3]}, r"strides of 'x': .* at most \[2\]"),
    ],
)
def test_what_does_not_go_with_the_model(models: Path, options: dict[str, Any], told: str) -> None:
    model = exported.load(models / "affine.pt2", CPU, None)
    with pytest.raises(RequestError, match=told) as raised:
        explain(model, x_of(), **options)
    assert raised.value.code == 400


def test_models_that_cannot_be_explained(models: Path, tmp_path: Path) -> None:
    mixer = exported.load(models / "mixer.pt2", CPU, None)
    mixed = [
        Tensor("values", Datatype.FP32, np.ones((2, 2), np.float32)),
        Tensor("counts", Datatype.INT64, np.ones(2, np.int64)),
    ]
    with pytest.raises(RequestError, match="must say which output is explained: scaled, raised"):
        explain(mixer, mixed)
    with pytest.raises(RequestError, match="'raised' is INT64; only floating point"):
        explain(mixer, mixed, output="raised")
    with pytest.raises(RequestError, match=r"this model has none \(ids is INT64\); serve the part"):
        explain(mixer, [Tensor("ids", Datatype.INT64, np.ones((1, 2), np.int64))])
    with pytest.raises(RequestError, match="otherwise the second time"):
        explain(scripted(Dice(), tmp_path), x_of())
    with pytest.raises(
        RequestError, match=r"has the shape \[3\] for 2 rows: only what is answered row by row"
    ):
        explain(scripted(Sums(), tmp_path), x_of())
    with pytest.raises(RequestError, match="the same rows in their first dimension, at least one"):
        explain(mixer, x_of(0))


def test_work_is_bounded(models: Path) -> None:
    model = exported.load(models / "affine.pt2", CPU, None)
    with pytest.raises(
        RequestError, match="on 40,960 rows, and 32,768 is the most; send fewer rows, or ask for fewer"
    ):
        explain(model, x_of(40), steps=1024)
    assert explain(model, x_of(32), steps=1024).attributions[0].array.shape == (32, 3)


def test_outputs_of_several_dimensions_take_an_index(tmp_path: Path) -> None:
    class Table(nn.Module):
        def forward(self, x: TorchTensor) -> TorchTensor:
            return torch.stack([x, x * 2], dim=1)  # [rows, 2, 3]

    signature = Signature((TensorSpec("x", Datatype.FP32, (-1, 3)),), ())
    model = torchscript.load(save_torchscript(Table(), tmp_path / "table.pt", None), CPU, signature)
    explanation = explain(model, x_of(), target=(1, 2))
    np.testing.assert_allclose(explanation.attributions[0].array, [[0, 0, 6], [0, 0, 12]], rtol=1e-5)
    assert explanation.target == (1, 2)
    with pytest.raises(RequestError, match="give a list of 2 indexes"):
        explain(model, x_of(), target=1)
