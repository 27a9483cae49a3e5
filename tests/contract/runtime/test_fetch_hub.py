"""Repositories of a hub: a small server that speaks its API stands for the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse_runtime.contract import FailureReason
from tests.support.fetching import fetch, left
from tests.support.model_hub import COMMIT, ModelHub

REPO = "sentence-transformers/tiny"
FILES = {
    "README.md": b"# Tiny",
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 2_000,
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"another form",
    "1_Pooling/config.json": b'{"pooling": true}',
}
LEFT_OUT = ("pytorch_model.bin", "onnx/model.onnx")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("token", ["", "hf_planted_token"])
def test_a_repository_is_a_folder(tmp_path: Path, token: str) -> None:
    with ModelHub(REPO, FILES, token) as hub:
        secret = {"HF_TOKEN": token} if token else {}
        done = fetch(tmp_path, f"hf://{REPO}", HF_ENDPOINT=hub.url, **secret)
        seen = hub.seen
    assert done.words is None, done.text
    assert done.path.name == "tiny"
    assert contents(done.path) == {n: b for n, b in FILES.items() if n not in LEFT_OUT}
    assert "planted" not in done.told
    assert all(COMMIT in path for _, path, _ in seen if "/resolve/" in path), (
        "one commit, whatever happens to main"
    )
    elsewhere = [authorization for _, path, authorization in seen if path.startswith("/cdn/")]
    assert elsewhere == [""], "the token is for the hub alone"


def test_a_folder_and_a_file_of_it(tmp_path: Path) -> None:
    with ModelHub(REPO, FILES) as hub:
        folder = fetch(tmp_path / "1", f"hf://{REPO}@main/1_Pooling/", HF_ENDPOINT=hub.url)
        file = fetch(tmp_path / "2", f"hf://{REPO}/onnx/model.onnx", HF_ENDPOINT=hub.url)
    assert (folder.path.name, contents(folder.path)) == ("1_Pooling", {"config.json": b'{"pooling": true}'})
    assert (file.path.name, file.path.read_bytes()) == ("model.onnx", b"another form")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("hf://somebody/else", "there is no such repository, or it is private"),
        (f"hf://{REPO}@v9", "the repository has no revision 'v9'"),
        (f"hf://{REPO}/none.bin", "the repository has no file 'none.bin'"),
        (f"hf://{REPO}/none/", "there is nothing"),
    ],
)
def test_what_is_not_there(tmp_path: Path, uri: str, told: str) -> None:
    with ModelHub(REPO, FILES) as hub:
        done = fetch(tmp_path, uri, HF_ENDPOINT=hub.url)
    assert done.words is not None
    assert (done.words.reason, done.words.permanent) == (FailureReason.MODEL_DOWNLOAD_FAILED, True)
    assert told in done.words.message
    assert left(done.mount) == []


def test_a_private_repository(tmp_path: Path) -> None:
    with ModelHub(REPO, FILES, "hf_planted_token") as hub:
        done = fetch(tmp_path, f"hf://{REPO}", HF_ENDPOINT=hub.url, HF_TOKEN="hf_planted_wrong")
    assert done.words is not None
    assert "names no Secret with its HF_TOKEN" in done.words.message
    assert "planted" not in done.told


def test_names_that_lead_out(tmp_path: Path) -> None:
    with ModelHub(REPO, FILES | {"../../out.json": b"x"}) as hub:
        done = fetch(tmp_path, f"hf://{REPO}", HF_ENDPOINT=hub.url)
    assert done.words is not None
    assert "which is no path below a folder" in done.words.message
    assert left(tmp_path) == ["mount", "termination-log"]


def test_a_hub_that_is_away(tmp_path: Path) -> None:
    with ModelHub(REPO, FILES) as hub:
        pass
    done = fetch(tmp_path, f"hf://{REPO}", HF_ENDPOINT=hub.url)
    assert done.words is not None
    assert not done.words.permanent
    assert "the hub cannot be reached" in done.words.message
