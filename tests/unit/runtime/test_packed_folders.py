"""Folders with a manifest in the runtime's loader: what the spec says narrows it, and never contradicts it unheard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.manifest import MANIFEST_FILE, Manifest
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.core.signature import parse_signature
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.core.tensors import Signature
from pilothouse_runtime.digests import digest_of
from pilothouse_runtime.engine.loader import load
from pilothouse_runtime.engine.source import Source
from tests.support.tiny_models import AFFINE_SIGNATURE, Affine, bomb, save_affine, save_torchscript


def packed(folder: Path, model: Path, format_: str, signature: dict[str, Any]) -> Path:
    """Write a manifest for the model file that lies in a folder."""
    manifest = Manifest(
        model.name, format_, parse_signature(json.dumps(signature)), {model.name: digest_of(model)}
    )
    (folder / MANIFEST_FILE).write_text(manifest.encode())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A TorchScript file without a signature of its own, and a manifest that has it."""
    made = tmp_path / "affine"
    made.mkdir()
    return packed(made, save_torchscript(Affine(), made / "model.pt", None), "torchscript", AFFINE_SIGNATURE)


def loaded(folder: Path, **environment: str) -> tuple[str, Signature | None]:
    """Return format and signature of what is served for these variables of `contract`."""
    named = {contract.ENV_PREFIX + name: value for name, value in environment.items()}
    settings = read_settings(
        {contract.ENV_MODEL_NAME: "m", contract.ENV_MODEL_URI: f"file://{folder}", **named}
    )
    description = load(settings, Source(folder / "none", folder / "none"), Readiness()).description
    return description.format, description.signature


def failure(folder: Path, **environment: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        loaded(folder, **environment)
    return caught.value


def change(folder: Path, **fields: Any) -> None:
    """Change fields of the manifest."""
    document = json.loads((folder / MANIFEST_FILE).read_text()) | fields
    (folder / MANIFEST_FILE).write_text(json.dumps(document))


def test_format_and_signature_are_those_of_the_manifest(folder: Path) -> None:
    assert loaded(folder) == ("torchscript", parse_signature(json.dumps(AFFINE_SIGNATURE)))
    assert loaded(folder, MODEL_FORMAT="torchscript", MODEL_DIGEST=digest_of(folder))[0] == "torchscript"


def test_names_of_outputs_may_come_from_the_manifest(tmp_path: Path) -> None:
    model = save_affine(tmp_path / "model.pt2")
    packed(tmp_path, model, "exported", AFFINE_SIGNATURE)
    signature = loaded(tmp_path)[1]
    assert signature is not None
    assert [spec.name for spec in signature.outputs] == ["y"]


def test_the_spec_may_fix_what_the_manifest_leaves_free(folder: Path) -> None:
    declared = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 3]}]}
    signature = loaded(folder, MODEL_SIGNATURE=json.dumps(declared))[1]
    assert signature is not None
    assert list(map(str, signature.inputs)) == ["x FP32 [4, 3]"]
    assert list(map(str, signature.outputs)) == ["y FP32 [-1, 2]"]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {"MODEL_FORMAT": "exported"},
            "affine: model.format is exported, but pilothouse.json says torchscript",
        ),
        (
            {"MODEL_SIGNATURE": '{"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3]}]}'},
            "affine: model.inputs and model.outputs contradict pilothouse.json: inputs: [image] are declared, the model"
            " has [x]",
        ),
        (
            {"MODEL_SIGNATURE": '{"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3]}]}'},
            "'x' is declared as FP64 [-1, 3], the model has FP32 [-1, 3]",
        ),
    ],
)
def test_a_spec_that_contradicts_the_manifest_is_told_where(
    folder: Path, environment: dict[str, str], told: str
) -> None:
    error = failure(folder, **environment)
    assert (error.reason, error.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert told in error.message


def test_a_manifest_that_contradicts_its_model_is_blamed_and_not_the_spec(tmp_path: Path) -> None:
    other = json.loads(json.dumps(AFFINE_SIGNATURE).replace('"x"', '"image"'))
    packed(tmp_path, save_affine(tmp_path / "model.pt2"), "exported", other)
    assert "model.pt2: inputs and outputs in pilothouse.json contradict the file: inputs: [image]" in (
        failure(tmp_path).message
    )
    signature = json.dumps(other)
    assert "model.pt2: model.inputs and model.outputs contradict the file" in (
        failure(tmp_path, MODEL_SIGNATURE=signature).message
    )


def _cut(folder: Path) -> None:
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])


def _link(folder: Path) -> None:
    shutil.move(folder / "model.pt", folder.parent / "elsewhere.pt")
    (folder / "model.pt").symlink_to(folder.parent / "elsewhere.pt")


def _pickle(folder: Path) -> None:
    (folder / "model.pt").write_bytes(bomb(folder.parent / "mark"))
    change(folder, files={"model.pt": digest_of(folder / "model.pt")})


@pytest.mark.parametrize(
    ("spoil", "reason", "told"),
    [
        (_cut, FailureReason.DIGEST_MISMATCH, "affine/model.pt has sha256:"),
        (lambda folder: (folder / "model.pt").unlink(), FailureReason.MODEL_LOAD_FAILED, "model.pt, which is no file"),
        (_link, FailureReason.MODEL_LOAD_FAILED, "names the model model.pt, which is no file there"),
        (_pickle, FailureReason.MODEL_LOAD_FAILED, "a pickle"),
        (lambda folder: change(folder, model="../x"), FailureReason.MODEL_LOAD_FAILED, "model: must be the name"),
        (lambda folder: change(folder, format="abacus"), FailureReason.MODEL_LOAD_FAILED, "says format 'abacus'"),
        (lambda folder: change(folder, format="python"), FailureReason.MODEL_LOAD_FAILED, "is never loaded unasked"),
        (lambda folder: change(folder, format="exported"), FailureReason.MODEL_LOAD_FAILED, "of format torchscript"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("{"), FailureReason.MODEL_LOAD_FAILED, "is not JSON"),
        (
            lambda folder: (folder / MANIFEST_FILE).write_bytes(b" " * (17 << 20)),
            FailureReason.MODEL_LOAD_FAILED,
            "longer than any manifest",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_as_it_was_packed_is_refused(
    folder: Path, spoil: Callable[[Path], object], reason: FailureReason, told: str
) -> None:
    spoil(folder)
    error = failure(folder)
    assert error.reason is reason
    assert told in error.message
    assert error.message.count("set model.format") <= 1
    assert not (folder.parent / "mark").exists()


def test_what_is_loaded_by_name_only_is_not_loaded_because_a_manifest_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(bomb(tmp_path / "mark"))
    packed(tmp_path, tmp_path / "model.pt", "statedict", AFFINE_SIGNATURE)
    assert failure(tmp_path).reason is FailureReason.MODEL_LOAD_FAILED
    assert not (tmp_path / "mark").exists()


def test_the_digest_of_the_spec_is_of_the_whole_folder(folder: Path) -> None:
    digest = digest_of(folder)
    (folder / "notes.txt").write_text("new")
    error = failure(folder, MODEL_DIGEST=digest)
    assert error.reason is FailureReason.DIGEST_MISMATCH
