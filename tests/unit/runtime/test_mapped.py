"""Weights that stay pages of their file: the same answers, no copies, and a refusal where they cannot stay there."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.digests import file_sha256
from pilothouse_runtime.engine.model import LoadedModel, Options
from pilothouse_runtime.engine.selection import select
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.processes import mapped_bytes
from tests.support.wide_models import Counting, Halves, Wide, saved_wide
from tests.support.written_models import MINILM

CPU = torch.device("cpu")
SHAPE = (-1, Wide.side)
SIGNATURE = Signature((TensorSpec("x", Datatype.FP32, SHAPE),), (TensorSpec("y", Datatype.FP32, SHAPE),))
PAGE = 4096


def load(file: Path, network: type[Wide] = Wide, optimize: Optimize = Optimize.MMAP) -> Any:
    format_ = Format.STATEDICT if file.suffix == ".pt" else Format.AUTO
    exported = file.suffix == ".pt2"
    factory = "" if exported else f"{network.__module__}:{network.__name__}"
    options = Options(factory, optimize=optimize)
    return select(file, format_, None if exported else SIGNATURE, options).load(CPU)


def answer(model: LoadedModel, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (output,) = model.run([Tensor("x", Datatype.FP32, x)])
    return np.array(output.array)


def rows(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((count, Wide.side)).astype(np.float32)


def refusal(file: Path, network: type[Wide] = Wide) -> str:
    with pytest.raises(LoadError) as caught:
        warm_up(load(file, network))
    assert (caught.value.reason, caught.value.permanent) == (FailureReason.OPTIMIZATION_FAILED, True)
    return caught.value.message


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("exported", Wide),
        ("exported", Halves),
        ("safetensors", Wide),
        ("safetensors", Halves),
        ("safetensors", Counting),
        ("statedict", Wide),
        ("statedict", Halves),
        ("statedict", Counting),
    ],
)
def test_answers_are_the_same_and_nothing_is_copied(tmp_path: Path, kind: str, network: type[Wide]) -> None:
    file = saved_wide(kind, tmp_path, network())
    digest = file_sha256(file)
    want = answer(load(file, network, Optimize.NONE), rows(5))
    model = load(file, network)
    assert warm_up(model, 8).max_batch == 8
    np.testing.assert_allclose(answer(model, rows(5)), want, rtol=1e-5, atol=1e-5)
    mapped = mapped_bytes(file)
    weight = Wide.side**2 * (2 if network is Halves else 4)
    assert mapped["Rss"] >= weight
    assert mapped["Anonymous"] == (PAGE if network is Counting else 0)  # what a model writes is its own
    assert file_sha256(file) == digest


@pytest.mark.parametrize("kind", ["exported", "safetensors", "statedict"])
def test_gradients_are_there(tmp_path: Path, kind: str) -> None:
    model = load(saved_wide(kind, tmp_path, Wide()))
    warm_up(model)
    x = torch.ones(1, Wide.side, requires_grad=True)
    answer = model.call([x])
    (answer[0] if isinstance(answer, tuple) else answer).sum().backward()
    assert x.grad is not None


def test_weights_that_do_not_lie_row_by_row(tmp_path: Path) -> None:
    weights = Wide().state_dict()
    torch.save(weights | {"first.weight": weights["first.weight"].t().contiguous().t()}, tmp_path / "m.pt")
    model = load(tmp_path / "m.pt")
    warm_up(model)
    with torch.inference_mode():
        want = Wide()(torch.from_numpy(rows(2))).numpy()
    np.testing.assert_allclose(answer(model, rows(2)), want, rtol=1e-4, atol=1e-5)


def test_weights_that_begin_where_no_number_may(tmp_path: Path) -> None:
    whole = saved_wide("safetensors", tmp_path, Wide()).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = (
        whole[8 : 8 + length] + b" " * 1
    )  # the format allows blanks: all that follows is one byte further on
    file = tmp_path / "odd.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    assert "0 of" in refusal(file)


@pytest.mark.parametrize("kind", ["safetensors", "statedict"])
def test_weights_of_another_type_than_the_network(tmp_path: Path, kind: str) -> None:
    told = refusal(saved_wide(kind, tmp_path, Halves()))
    assert "is float16 in the file and float32 in the network" in told
    assert "save the weights in the type of the network" in told


@pytest.mark.parametrize("kind", ["exported", "statedict"])
def test_compressed_weights(tmp_path: Path, kind: str) -> None:
    plain = saved_wide(kind, tmp_path, Wide())
    file = tmp_path / f"packed{plain.suffix}"
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    told = refusal(file)
    assert f"only 0 of {json.dumps(4 * (Wide.side**2 + Wide.side))} bytes of its weights could stay" in told


def test_a_folder_of_transformers_is_mapped_in_any_case() -> None:
    for optimize in (Optimize.NONE, Optimize.MMAP):
        model = select(MINILM, Format.AUTO, None, Options(optimize=optimize)).load(CPU)
        warm_up(model)
        mapped = mapped_bytes(MINILM / "model.safetensors")
        assert mapped["Rss"] > 0
        assert mapped["Anonymous"] == 0
        del model
