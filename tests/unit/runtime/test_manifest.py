"""The manifest of a packed model: what is written is read again, and what breaks a rule is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse_runtime.core.manifest import Manifest, ManifestError, name_and_version, parse_manifest
from pilothouse_runtime.core.tensors import Datatype, Signature, TensorSpec

DIGEST = f"sha256:{'0' * 64}"
MANIFEST = Manifest(
    "model.pt2",
    "exported",
    Signature(
        (TensorSpec("x", Datatype.FP32, (-1, 3)),),
        (TensorSpec("y", Datatype.INT64, (-1,)), TensorSpec("z", Datatype.BOOL, ())),
    ),
    {"model.pt2": DIGEST, "golden.npz": DIGEST},
    "scaled to 0..1",
    {"at": "2026-01-01T00:00:00+00:00", "from": "train:network", "torch": "2.13.0"},
)


def test_what_is_written_is_read_again() -> None:
    assert parse_manifest(MANIFEST.encode()) == MANIFEST


def test_later_releases_may_add_fields_and_notes_may_be_left_out() -> None:
    fields = json.loads(MANIFEST.encode()) | {"added": 1}
    del fields["preprocessing"], fields["packed"]
    assert parse_manifest(json.dumps(fields)).signature == MANIFEST.signature


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"manifest": 2}, "manifest: must be 1"),
        ({"manifest": None}, "manifest: must be 1"),
        ({"model": "../model.pt2"}, "model: must be the name of a file in this folder"),
        ({"model": "/etc/passwd"}, "model: must be the name of a file in this folder"),
        ({"model": "a/model.pt2"}, "model: must be the name of a file in this folder"),
        ({"model": ".."}, "model: must be the name of a file in this folder"),
        ({"model": 1}, "model: must be the name of a file in this folder"),
        ({"model": "other.pt2"}, "files: must hold the digest of other.pt2"),
        ({"format": 1}, "format: must be a text"),
        ({"inputs": {}}, 'must be an object with a list "inputs"'),
        ({"inputs": [{"name": "x", "datatype": "FLOAT", "shape": []}]}, "inputs[0].datatype: 'FLOAT' is none of"),
        ({"outputs": [{"name": "", "datatype": "FP32", "shape": []}]}, "outputs[0].name: must be a text"),
        ({"files": []}, "files: must be an object of texts"),
        ({"files": {"model.pt2": "0" * 64}}, "files: must map names of files in this folder to sha256:"),
        ({"files": {"../x": DIGEST}}, "files: must map names of files in this folder to sha256:"),
        ({"preprocessing": []}, "preprocessing: must be a text"),
        ({"packed": {"at": 1}}, "packed: must be an object of texts"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_by_its_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(json.dumps(json.loads(MANIFEST.encode()) | change))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name", "version"),
    [
        ("models/digits/2", "digits", "2"),
        ("models/digits/v1.2", "digits", "v1.2"),
        ("models/Digits CNN", "digits-cnn", "1"),
        ("models/7-segments", "model", "1"),
        ("/", "model", "1"),
        ("x" * 60, "model", "1"),
    ],
)
def test_models_are_called_as_their_folders(path: str, name: str, version: str) -> None:
    assert name_and_version(Path(path)) == (name, version)


def test_files_are_called_without_their_ending(tmp_path: Path) -> None:
    (tmp_path / "digits_cnn.pt2").touch()
    assert name_and_version(tmp_path / "digits_cnn.pt2") == ("digits-cnn", "1")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", b"\xff", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(text)
