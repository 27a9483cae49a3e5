"""What a file is, told before any loader touches it."""

from __future__ import annotations

import gzip
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.engine.formats import describe, detect
from tests.support.tiny_models import Affine


@pytest.mark.parametrize(
    ("name", "found"),
    [("affine.pt", Format.TORCHSCRIPT), ("affine.pt2", Format.EXPORTED), ("bare.pt", Format.TORCHSCRIPT)],
)
def test_models_are_known_whatever_their_name(models: Path, tmp_path: Path, name: str, found: Format) -> None:
    renamed = tmp_path / "model"
    renamed.write_bytes((models / name).read_bytes())
    assert detect(renamed, Format.AUTO) is found
    assert detect(renamed, found) is found
    other = Format.EXPORTED if found is Format.TORCHSCRIPT else Format.TORCHSCRIPT
    with pytest.raises(LoadError, match=f"model.format is {other}, but the file is of format {found}"):
        detect(renamed, other)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><title>404</title>", "a page of HTML or XML (text/html) that says '404'"),
        (b"\xef\xbb\xbf\n <?xml?><Error><Code>AccessDenied</Code></Error>", "that says 'AccessDenied'"),
        (b"eyJhbGciOiJSUzI1NiJ9.secret", "a text file (text/html)"),
        (b'{"token": "secret"}', "a text file (text/html)"),
        (pickle.dumps([1]), "a pickle"),
        (gzip.compress(b"x", mtime=0), "a gzip archive: unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (tarfile.TarInfo("model.pt2").tobuf(), "a tar archive: unpack it first"),
        (b"\x00\xff\xfe\x01rest", "a binary file of unknown kind (text/html), beginning with 00 ff fe 01"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(content)
    assert told in describe(file, "text/html")
    with pytest.raises(LoadError) as caught:
        detect(file, Format.AUTO, "text/html")
    assert told in caught.value.message
    assert "secret" not in caught.value.message
    advice = (
        "let model.uri name the model file itself"
        if "HTML" in told or "that says" in told
        else "export the model"
    )
    assert f"; {advice}" in caught.value.message
    assert caught.value.permanent


def test_long_pages_are_shortened(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"<html>" + b"word " * 1000)
    assert len(describe(file)) < 150


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_save_writes(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "model.pt"
    torch.save(Affine().state_dict(), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        LoadError, match=r"torch\.save.*could run any code and is never loaded; export the model"
    ):
        detect(file, Format.AUTO)


@pytest.mark.parametrize("name", ["affine.pt", "affine.pt2"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_cut_off_archives(models: Path, tmp_path: Path, name: str, share: float) -> None:
    whole = (models / name).read_bytes()
    file = tmp_path / name
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LoadError, match=r"is a broken archive of [\d,]+ bytes .*is it cut off\?"):
        detect(file, Format.AUTO)


@pytest.mark.parametrize("name", ["/etc/passwd", "m/../../etc/passwd", "..", "m/..", "m\\..\\x"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr(name, b"")
    with pytest.raises(LoadError, match="leads out of it"):
        detect(file, Format.AUTO)


def test_the_same_name_twice(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of the name written twice
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/data.pkl", b"")
    with pytest.raises(LoadError, match="same name twice"):
        detect(file, Format.AUTO)


def test_archives_that_swell(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("m/data/0", "w") as member:
        for _ in range(80):
            member.write(bytes(1024 * 1024))
    with pytest.raises(LoadError, match=r"would expand to 83,886,080: no model does that"):
        detect(file, Format.AUTO)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["readme.txt"], "not one that torch or Keras wrote"),
        (["serialized_exported_program.json", "version"], "old version of torch"),
        (["m/constants.pkl", "m/data.pkl"], "written by torch.save"),
    ],
)
def test_other_archives(tmp_path: Path, names: list[str], told: str) -> None:
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(LoadError, match=told):
        detect(file, Format.AUTO)
