"""The digest of a file and of a folder, held to what the shell's own tools say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pilothouse_runtime.digests import DigestError, digest_of, file_sha256, folder_sha256

_IN_A_SHELL = r"find . -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name in ("a/b.bin", "a-b/c.bin", "a.bin", "Z.json", "two words.txt", "é.txt", "deep/er/still/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000)
    (folder / "nothing in it").mkdir()
    return folder


def test_a_folder_has_the_digest_that_the_shell_computes(folder: Path) -> None:
    said = subprocess.run(["sh", "-c", _IN_A_SHELL], cwd=folder, capture_output=True, text=True, check=True)
    assert folder_sha256(folder) == said.stdout.split()[0]
    assert digest_of(folder) == f"sha256:{said.stdout.split()[0]}"


def test_a_file_has_its_sha256(folder: Path) -> None:
    said = subprocess.run(["sha256sum", folder / "a.bin"], capture_output=True, text=True, check=True)
    assert digest_of(folder / "a.bin") == f"sha256:{said.stdout.split()[0]}"


def test_what_changes_the_digest_of_a_folder(folder: Path) -> None:
    before = folder_sha256(folder)
    os.utime(folder / "a.bin", (0, 0))
    (folder / "a.bin").chmod(0o700)
    (folder / "another").mkdir()
    assert folder_sha256(folder) == before
    (folder / "a.bin").rename(folder / "b.bin")
    renamed = folder_sha256(folder)
    assert renamed != before
    (folder / "b.bin").write_bytes(b"else")
    assert folder_sha256(folder) not in (renamed, before)


def test_a_link_is_refused(folder: Path) -> None:
    (folder / "deep/link").symlink_to(folder / "a.bin")
    with pytest.raises(DigestError, match="'deep/link' is a symbolic link"):
        digest_of(folder)


def test_a_link_to_a_folder_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("a", target_is_directory=True)
    with pytest.raises(DigestError, match="'link' is a symbolic link"):
        digest_of(folder)


def test_a_link_that_leads_to_the_folder_itself_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(folder)
    assert digest_of(tmp_path / "current") == digest_of(folder)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(DigestError, match="neither a file nor a folder"):
        digest_of(folder)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\rb"])
def test_names_that_make_no_line_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(DigestError, match="control characters"):
        digest_of(folder)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigestError, match="holds no file"):
        digest_of(tmp_path)


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DigestError, match="is neither a file nor a folder"):
            digest_of(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none")
