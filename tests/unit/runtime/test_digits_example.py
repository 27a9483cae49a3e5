"""The example that the demo serves: it trains, the better model is better, and both are servable."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.backends import exported, torchscript
from pilothouse_runtime.engine.golden import read_golden
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.source import LocalFile
from pilothouse_runtime.engine.warmup import warm_up
from pilothouse_runtime.validate.scores import Metric, Tally

ROOT = Path(__file__).parents[3]
SIGNATURE = Signature(
    (TensorSpec("image", Datatype.FP32, (-1, 64)),), (TensorSpec("logits", Datatype.FP32, (-1, 10)),)
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, "-m", "examples.digits.train", "--out", str(out)], cwd=ROOT, check=True)
    return out


def test_the_convolutional_network_is_clearly_better(trained: Path) -> None:
    report = json.loads((trained / "report.json").read_text())
    plain, convolutional = report["digits-mlp.pt"]["accuracy"], report["digits-cnn.pt2"]["accuracy"]
    assert 0.9 < plain < 0.97
    assert convolutional > 0.975
    assert convolutional - plain > 0.01


@pytest.mark.parametrize(
    ("name", "load"), [("digits-mlp.pt", torchscript.load), ("digits-cnn.pt2", exported.load)]
)
def test_what_is_served_is_what_was_measured(trained: Path, name: str, load: object) -> None:
    facts = json.loads((trained / "report.json").read_text())[name]
    assert facts["digest"] == f"sha256:{hashlib.sha256((trained / name).read_bytes()).hexdigest()}"
    assert callable(load)
    model: LoadedModel = load(trained / name, torch.device("cpu"), None)
    warm_up(model)
    assert model.signature == SIGNATURE
    test = np.load(trained / "digits-test.npz")
    logits = model.run([Tensor("image", Datatype.FP32, test["inputs"])])[0].array
    assert float((logits.argmax(1) == test["labels"]).mean()) == pytest.approx(facts["accuracy"], abs=0.002)


def test_the_golden_data_set_fits_the_models_and_is_good_enough_to_tell_them_apart(trained: Path) -> None:
    golden = read_golden(LocalFile(trained / "digits-golden.npz"), needs_outputs=True)
    (image,), (logits,) = SIGNATURE.inputs, SIGNATURE.outputs
    assert golden.rows == 200
    assert (list(golden.inputs), list(golden.outputs)) == ([image.name], [logits.name])
    assert golden.inputs["image"].dtype == image.datatype.dtype
    assert image.accepts(golden.inputs["image"].shape)
    assert set(golden.outputs["logits"]) == set(range(10))
    shares = {}
    for name, load in (("digits-mlp.pt", torchscript.load), ("digits-cnn.pt2", exported.load)):
        model: LoadedModel = load(trained / name, torch.device("cpu"), None)
        answer = model.run([Tensor("image", Datatype.FP32, golden.inputs["image"])])
        tally = Tally(Metric.ACCURACY)
        tally.add({tensor.name: tensor.array for tensor in answer}, golden.outputs)
        shares[name] = tally.value
    assert 0.9 < shares["digits-mlp.pt"] < shares["digits-cnn.pt2"]


@pytest.mark.parametrize(("name", "file"), [("v1.yaml", "digits-mlp.pt"), ("v2.yaml", "digits-cnn.pt2")])
def test_the_manifests_name_these_files(name: str, file: str) -> None:
    manifest = yaml.safe_load((ROOT / "examples/digits" / name).read_text())
    assert manifest["kind"] == "ModelDeployment"
    assert manifest["metadata"]["name"] == "digits"
    assert manifest["spec"]["model"]["uri"].endswith(f"/{file}")
