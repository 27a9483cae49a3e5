"""A real process that cannot serve its model: exit code 1, last words that the operator reads, one line in the log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse_runtime.contract import FailureReason, LastWords, Phase
from tests.support.badserver import BadServer
from tests.support.runtime_process import runtime
from tests.support.tiny_models import Affine, bomb, save_torchscript, torch_bomb


def end(folder: Path, uri: str, **environment: str) -> tuple[LastWords, list[dict[str, Any]]]:
    """Run a process that must give up, and return its last words and its log."""
    with runtime(folder, uri, **environment) as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None, process.lines
    told = [line for line in process.lines if line["level"] == "error"]
    assert [(line["msg"], line["reason"], line["permanent"]) for line in told] == [
        (words.message, words.reason, words.permanent)
    ]
    return words, process.lines


def test_wrong_digest_is_found_before_anything_reads_the_file(tmp_path: Path) -> None:
    mark = tmp_path / "code-has-run"
    (tmp_path / "model.pt").write_bytes(torch_bomb(mark))
    words, lines = end(tmp_path, f"file://{tmp_path}/model.pt", MODEL_DIGEST=f"sha256:{'0' * 64}")
    assert (words.reason, words.permanent) == (FailureReason.DIGEST_MISMATCH, True)
    assert words.phase is Phase.PULLING
    assert [entered.phase for entered in words.history] == [Phase.STARTING, Phase.PULLING]
    assert hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest() in words.message
    assert not any("PyTorch" in line["msg"] for line in lines)
    assert not mark.exists()


def test_login_page_in_place_of_the_model(tmp_path: Path) -> None:
    with BadServer({}) as server:
        words, _ = end(tmp_path, f"{server.url}/html/model.pt")
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert (
        "a page of HTML or XML (text/html; charset=utf-8) that says 'Sign in Please log in'" in words.message
    )


@pytest.mark.parametrize("make", [bomb, torch_bomb])
def test_pickle(tmp_path: Path, make: Any) -> None:
    mark = tmp_path / "code-has-run"
    (tmp_path / "model.pt").write_bytes(make(mark))
    words, _ = end(tmp_path, f"file://{tmp_path}/model.pt")
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert "could run any code and is never loaded" in words.message
    assert "export the model with torch.export.save (.pt2) or torch.jit.save (.pt)" in words.message
    assert not mark.exists()


def test_nobody_listens(tmp_path: Path) -> None:
    with BadServer({}) as server:
        gone = server.url
    words, lines = end(tmp_path, f"{gone}/model.pt?signature=secret")
    assert (words.reason, words.permanent) == (FailureReason.MODEL_DOWNLOAD_FAILED, False)
    assert f"{gone}/model.pt: cannot connect: Connection refused; gave up after 3 attempts" in words.message
    assert "secret" not in json.dumps(lines) + words.message


def test_no_such_file_on_the_server(tmp_path: Path) -> None:
    with BadServer({}) as server:
        words, _ = end(tmp_path, f"{server.url}/good/model.pt")
        assert server.counts["/good/model.pt"] == 1  # asking again is of no use
    assert (words.reason, words.permanent) == (FailureReason.MODEL_DOWNLOAD_FAILED, True)
    assert "the server answered 404" in words.message


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"MODEL_NAME": ""}, "PILOTHOUSE_MODEL_NAME: must be set"),
        ({"MODEL_DIGEST": "sha256:12"}, "PILOTHOUSE_MODEL_DIGEST: must be sha256: and 64"),
        (
            {"MODEL_SIGNATURE": '{"inputs": 1}'},
            'PILOTHOUSE_MODEL_SIGNATURE: must be an object with a list "inputs"',
        ),
        (
            {"MODEL_URI": "s3://bucket/model.pt"},
            "PILOTHOUSE_MODEL_URI: its scheme must be one of file, http, https, pvc",
        ),
    ],
)
def test_bad_configuration(tmp_path: Path, environment: dict[str, str], told: str) -> None:
    words, _ = end(tmp_path, "file:///model.pt", **environment)
    assert (words.reason, words.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert told in words.message


def test_signature_that_contradicts_the_model(tmp_path: Path) -> None:
    model = save_torchscript(Affine(), tmp_path / "bare.pt", None)
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "outputs": []}
    words, _ = end(tmp_path, f"file://{model}", MODEL_SIGNATURE=json.dumps(signature))
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert "warm-up with x FP32 [1, 4]" in words.message
    assert "cannot be multiplied" in words.message


def test_no_gpu_where_one_is_asked_for(tmp_path: Path) -> None:
    model = save_torchscript(Affine(), tmp_path / "affine.pt")
    with runtime(
        tmp_path,
        f"file://{model}",
        DEVICE="cuda",
    ) as process:
        process.process.wait()
    words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert "no GPU" in words.message


def test_a_termination_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "termination-log").mkdir()
    with runtime(tmp_path, "file:///no/such/model.pt") as process:
        assert process.wait() == 1
    assert [line["reason"] for line in process.lines if line["level"] == "error"] == ["ModelDownloadFailed"]
    assert process.lines[-1]["msg"].endswith("Is a directory")
