"""Models in files: in the image and on a claim."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.digests import folder_sha256
from pilothouse_runtime.engine.fetched import Record, write_record
from pilothouse_runtime.engine.source import Source, fetch


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "pvc/digits").mkdir(parents=True)
    (tmp_path / "pvc/digits/two words.pt").write_bytes(b"model")
    (tmp_path / "secret").write_bytes(b"token")
    (tmp_path / "pvc/link.pt").symlink_to(tmp_path / "secret")
    (tmp_path / "pvc/leaky").mkdir()
    (tmp_path / "pvc/leaky/link").symlink_to(tmp_path / "secret")
    (tmp_path / "pvc/inner.pt").symlink_to("digits/two words.pt")
    return Source(tmp_path / "cache", tmp_path / "pvc")


def ignore(message: str) -> None:
    """Take what is going on, and do nothing with it."""


@pytest.mark.parametrize(
    "uri", ["pvc://models/digits/two words.pt", "pvc://models/digits/two%20words.pt", "pvc://m/inner.pt"]
)
def test_a_path_on_a_claim(source: Source, uri: str) -> None:
    assert fetch(uri, hashlib.sha256(b"model").hexdigest(), source, ignore).path.read_bytes() == b"model"


def test_a_path_in_the_image(source: Source, tmp_path: Path) -> None:
    assert fetch(f"file://{tmp_path}/pvc/inner.pt", None, source, ignore).path.read_bytes() == b"model"


def test_a_folder_on_a_claim(source: Source) -> None:
    digest = folder_sha256(source.pvc_mount / "digits")
    assert fetch("pvc://models/digits", digest, source, ignore).path == source.pvc_mount / "digits"
    with pytest.raises(LoadError, match="the folder has sha256:") as caught:
        fetch("pvc://models/digits", "0" * 64, source, ignore)
    assert caught.value.reason is FailureReason.DIGEST_MISMATCH


@pytest.mark.parametrize("uri", ["pvc://models/pipe.pt", "file://{tmp_path}/pvc/pipe.pt"])
def test_what_is_neither_a_file_nor_a_folder_is_not_waited_for(
    source: Source, tmp_path: Path, uri: str
) -> None:
    os.mkfifo(tmp_path / "pvc/pipe.pt")
    with pytest.raises(LoadError, match=r"pipe[.]pt is neither a file nor a folder; check model[.]uri"):
        fetch(uri.format(tmp_path=tmp_path), None, source, ignore)


def test_who_may_not_read_a_file_is_told() -> None:
    user = os.geteuid() or 65532  # root may read everything, and may become another user
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "open.pt").write_bytes(b"model")
        (folder / "closed.pt").write_bytes(b"model")
        (folder / "closed.pt").chmod(0)
        (folder / "own").mkdir()
        (folder / "own/x.pt").write_bytes(b"model")
        (folder / "own").chmod(0)
        source = Source(folder / "cache", folder)
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), os.setuid, (user,)) as others:
            told = {
                name: others.submit(_told, f"pvc://models/{name}", source).result(timeout=60)
                for name in ("open.pt", "closed.pt", "own", "own/x.pt")
            }
        (folder / "own").chmod(0o700)
    assert told.pop("open.pt") == ""
    for name, message in told.items():
        assert f"/{name}: Permission denied for user {user}, as whom this runs; let all read it" in message


def _told(uri: str, source: Source) -> str:
    try:
        fetch(uri, None, source, ignore)
    except LoadError as error:
        return error.message
    return ""


def test_what_was_fetched_before(source: Source, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    (mount / "content").mkdir(parents=True)
    (mount / "content/x.pt").write_bytes(b"model")
    fetched = replace(source, fetched_dir=mount)
    with pytest.raises(
        LoadError, match=r"s3://b/x[.]pt is not at .*mount: the init container has not brought it"
    ):
        fetch("fetched:s3://b/x.pt", None, fetched, ignore)
    write_record(mount, Record("content/x.pt", "0" * 64, "text/plain", 3.5))
    told: list[str] = []
    file = fetch("fetched:s3://b/x.pt", "0" * 64, fetched, told.append)
    assert told, "a phase begins when something is told of it"
    assert (file.path, file.content_type, file.seconds) == (mount / "content/x.pt", "text/plain", 3.5)
    with pytest.raises(LoadError, match="has not brought it"):
        fetch("fetched:s3://b/x.pt", "1" * 64, fetched, ignore)


@pytest.mark.parametrize(
    ("uri", "reason", "permanent", "told"),
    [
        ("pvc://models/none.pt", FailureReason.MODEL_DOWNLOAD_FAILED, False, "No such file or directory"),
        (
            "pvc://models/leaky",
            FailureReason.INVALID_CONFIGURATION,
            True,
            "a link that leads out of the claim",
        ),
        ("pvc://models/link.pt", FailureReason.INVALID_CONFIGURATION, True, "a path on it"),
        ("pvc://models/../secret", FailureReason.INVALID_CONFIGURATION, True, "a path on it"),
        ("pvc:///digits/x.pt", FailureReason.INVALID_CONFIGURATION, True, "takes a claim"),
        (
            "file:///no/such.pt",
            FailureReason.MODEL_DOWNLOAD_FAILED,
            True,
            "/no/such.pt: No such file or directory",
        ),
        ("file://models/x.pt", FailureReason.INVALID_CONFIGURATION, True, "an absolute path"),
        ("s3://bucket/x.pt", FailureReason.INVALID_CONFIGURATION, True, "one of file, http, https, pvc"),
        ("x.pt", FailureReason.INVALID_CONFIGURATION, True, "one of file, http, https, pvc"),
        ("http:///x.pt", FailureReason.INVALID_CONFIGURATION, True, "must name a host"),
        ("http://me:secret@host/x.pt", FailureReason.INVALID_CONFIGURATION, True, "no user or password"),
    ],
)
def test_paths_that_lead_nowhere(
    source: Source, uri: str, reason: FailureReason, permanent: bool, told: str
) -> None:
    with pytest.raises(LoadError) as caught:
        fetch(uri, None, source, ignore)
    assert (caught.value.reason, caught.value.permanent) == (reason, permanent)
    assert told in caught.value.message
    assert "secret" not in caught.value.message
