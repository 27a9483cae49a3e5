"""Models that are packed as native code: served without a compiler, and refused where they would not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from dev.cluster.debian import install_missing
from dev.cluster.report import Report
from pilothouse_runtime.core.errors import Code, LoadError, RequestError
from pilothouse_runtime.core.manifest import MANIFEST_FILE, parse_manifest
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Tensor, datatype_of
from pilothouse_runtime.engine.backends import aotinductor
from pilothouse_runtime.engine.exporting.compiling import compile_program
from pilothouse_runtime.engine.exporting.served import Served
from pilothouse_runtime.pack import Packed, PackError, pack
from tests.support.runtime_process import PATIENCE, ROOT, runtime
from tests.support.tiny_models import rewritten, save_affine
from tests.support.trained_models import Branching, Encoder, Plain, Recurrent, Variational, examples

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    install_missing({"g++": "g++"}, Report())


@pytest.fixture(scope="module")
def network() -> Encoder:
    torch.manual_seed(5)
    return Encoder().train()


@pytest.fixture(scope="module")
def packed(network: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    length = {"tokens": {1: "length"}, "mask": {1: "length"}}
    folder = tmp_path_factory.mktemp("models") / "encoder"
    return pack(network, examples(Encoder), folder, outputs=["embedding"], dynamic=length, compile=True)


def offline(network: Encoder, inputs: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return what the network itself answers, without dropout."""
    with torch.inference_mode():
        answer: torch.Tensor = network.eval()(
            **{name: torch.from_numpy(array) for name, array in inputs.items()}
        )
    return answer.numpy()


def other_sizes() -> list[dict[str, np.ndarray[Any, Any]]]:
    """Return inputs with other numbers of rows and other lengths than the examples have."""
    many = examples(Encoder, rows=11)
    return [
        {name: array[:rows, :length].copy() for name, array in many.items()}
        for rows, length in ((1, 5), (11, 3), (4, 1))
    ]


def test_what_is_compiled_answers_as_what_was_trained(network: Encoder, packed: Packed) -> None:
    manifest = parse_manifest((packed.folder / MANIFEST_FILE).read_bytes())
    assert (manifest.format, manifest.model) == ("aotinductor", "model.pt2")
    assert manifest.packed["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    # Not for whatever CPU this machine has.
    assert manifest.packed["for"] == "cpu x86_64 AVX2"
    model = yaml.safe_load(packed.deployment)["spec"]["model"]
    assert model["format"] == "aotinductor"
    assert packed.difference < 1e-4
    served = Served(packed.folder, format_=Format.AOTINDUCTOR)
    for inputs in other_sizes():
        got = served.answers(inputs)["embedding"]
        np.testing.assert_allclose(got, offline(network, inputs), atol=1e-5)


def test_a_pod_serves_it_without_a_compiler(
    network: Encoder, packed: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with runtime(tmp_path, f"file://{packed.folder}", MODEL_FORMAT="aotinductor") as process:
        process.wait_ready()
        inputs = other_sizes()[0]
        request = {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype_of(array.dtype),
                    "shape": list(array.shape),
                    "data": array.ravel().tolist(),
                }
                for name, array in inputs.items()
            ]
        }
        reply = httpx.post(f"{process.url}/v2/models/tiny/infer", json=request, timeout=PATIENCE)
        (output,) = reply.json()["outputs"]
        assert output["name"] == "embedding"
        got = np.array(output["data"], np.float32).reshape(output["shape"])
        np.testing.assert_allclose(got, offline(network, inputs), atol=1e-5)
        process.terminate()
        assert process.wait() == 0


def test_it_is_not_loaded_unasked(packed: Packed) -> None:
    with pytest.raises(PackError, match="which is never loaded unasked: holds native code"):
        Served(packed.folder)


def test_sizes_that_do_not_go_together_are_the_clients_mistake(packed: Packed) -> None:
    model = aotinductor.load(packed.folder / "model.pt2", CPU, packed.manifest.signature)
    inputs = examples(Encoder) | {"mask": np.ones((6, 3), np.bool_)}
    tensors = [Tensor(name, datatype_of(array.dtype), array) for name, array in inputs.items()]
    with pytest.raises(RequestError, match="the tensors do not fit the model: expected size") as caught:
        model.run(tensors)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("PILOTHOUSE_TORCH", "2.12.1", r"was compiled with torch 2\.12\.1, but this is torch \d"),
        ("AOTI_MACHINE", "s390x", "was compiled for s390x, but this machine is "),
        ("AOTI_DEVICE_KEY", "cuda", "was compiled for cuda, but this container runs it on cpu"),
    ],
)
def test_what_was_compiled_for_something_else_is_refused(
    packed: Packed, tmp_path: Path, key: str, value: str, told: str
) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("_metadata.json"):
            return content
        return json.dumps(json.loads(content) | {key: value}).encode()

    file = rewritten(packed.folder / "model.pt2", tmp_path / "other.pt2", change)
    with pytest.raises(LoadError, match=rf"other\.pt2 {told}.*; compile it anew") as caught:
        aotinductor.load(file, CPU, packed.manifest.signature)
    assert caught.value.permanent


def test_a_cpu_that_lacks_instructions_is_told_so(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    has = torch.cpu.get_capabilities() | {"avx2": False, "fma3": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)  # there is no such CPU here
    with pytest.raises(
        LoadError, match="compiled for CPUs with AVX2, but this CPU lacks avx2, fma3; compile"
    ):
        aotinductor.load(packed.folder / "model.pt2", CPU, packed.manifest.signature)


def test_numbers_that_a_model_draws_are_its_own(tmp_path: Path) -> None:
    torch.manual_seed(5)
    packed = pack(Variational(), examples(Variational), tmp_path / "vae", compile=True)
    assert packed.manifest.format == "aotinductor"
    assert packed.difference < 1e-4  # of random outputs too, from the same seed


@pytest.mark.parametrize(
    ("make", "more", "told"),
    [
        (Plain, {"format": "exported"}, "compile: writes a format of its own; leave out format"),
        (lambda: torch.jit.script(Plain()), {}, "compile: the model is TorchScript already"),
        (
            Recurrent,
            {"dynamic": {"series": {1: "time"}}},
            "one size of time only, which is 9 in the examples",
        ),
        (
            Branching,
            {},
            r"compile: torch.export does not take the model: GuardOnDataDependent.*without compiling",
        ),
    ],
    ids=["format", "torchscript", "one-length", "branches"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_what_cannot_be_compiled(tmp_path: Path, make: Any, more: dict[str, Any], told: str) -> None:
    model = make()
    kind = type(model) if type(model) in (Plain, Recurrent, Branching) else Plain
    with pytest.raises(PackError, match=told):
        pack(model, examples(kind), tmp_path / "packed", compile=True, **more)
    assert list(tmp_path.iterdir()) == []


class Latest(nn.Module):
    """Looks at the last four of any number."""

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return series[:, -4:].contiguous().sum(1)


def test_a_disk_that_is_full_is_an_error_and_not_the_end_of_the_process() -> None:
    program = torch.export.export(Plain().eval(), (torch.from_numpy(examples(Plain)["x"]),))
    with pytest.raises(OSError, match="No space left on device"):
        compile_program(program, Path("/dev/full"))


def test_a_size_that_has_a_least_is_not_left_unchecked(tmp_path: Path) -> None:
    series = np.ones((2, 8), np.float32)
    with pytest.raises(PackError, match="compile: length must be at least 5 for this model"):
        pack(Latest(), series, tmp_path / "packed", dynamic={"series": {1: "length"}}, compile=True)


def test_a_file_is_copied_and_not_compiled(tmp_path: Path) -> None:
    file = save_affine(tmp_path / "affine.pt2")
    with pytest.raises(PackError, match="compile: is for modules and functions; a model file is copied"):
        pack(file, {"x": np.zeros((2, 3), np.float32)}, tmp_path / "packed", compile=True)


def test_without_a_compiler_it_says_what_is_missing(tmp_path: Path) -> None:
    np.savez(tmp_path / "examples.npz", **examples(Plain))
    words = ("tests.support.trained_models:Plain()", "-e", "examples.npz", "-o", "packed", "--compile")
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse_runtime", "pack", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'runtime'}:{ROOT}", "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "compile: needs a C++ compiler, and there is none; install g++" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "packed").exists()
