"""Models that are compiled when a server starts: the same answers, once for a pod, and told why not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import numpy as np
import pytest

from dev.cluster.debian import install_missing
from dev.cluster.report import Report
from tests.contract.runtime.test_optimized import FIRST, LONG, X, answered, asked, refused
from tests.support.processes import descendants, ended
from tests.support.runtime_process import PATIENCE, eventually, runtime
from tests.support.tiny_models import AFFINE_SIGNATURE, Mixer, Moody, save_affine, save_torchscript

Y = [[14.5, 1.5], [2.5, -0.5]]
MIXER = {
    "inputs": [
        {"name": "values", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "counts", "datatype": "INT64", "shape": [-1]},
    ],
    "outputs": [
        {"name": "scaled", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "raised", "datatype": "INT64", "shape": [-1]},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    install_missing({"g++": "g++"}, Report())


def test_an_exported_program(tmp_path: Path) -> None:
    file = save_affine(tmp_path / "affine.pt2")
    for start in ("first", "second"):
        with runtime(tmp_path, f"file://{file}", OPTIMIZE="compile", EXPLAIN="1") as process:
            process.wait_ready(LONG)
            said = str(process.lines)
            assert "the model is run as compile, 0.000 % off" in said
            assert "requests are run one by one" not in said
            # The container's next start finds what the first one has made.
            assert ("compiling the model, which" in said) == (start == "first")
            np.testing.assert_allclose(answered(process, X), Y, rtol=1e-5)
            np.testing.assert_allclose(answered(process, X * 7), Y * 7, rtol=1e-5)
            assert asked(process, "infer", [[1.0, 2.0]]).status_code == 400
            without = asked(process, "explain", X, target=0)
            assert (without.status_code, "needs gradients" in without.json()["error"]) == (400, True)
            explained = asked(process, "explain", X, target=0, method="feature_ablation").raise_for_status()
            np.testing.assert_allclose(
                np.reshape(explained.json()["outputs"][0]["data"], (2, 3)), FIRST, atol=1e-4
            )
            assert descendants(process.process.pid) == [process.process.pid]
            process.terminate()
            assert process.wait() == 0
    kept = [path.name for path in (tmp_path / "cache" / "compiled").iterdir()]
    assert len(kept) == 1
    assert sorted(path.name for path in (tmp_path / "cache" / "compiled" / kept[0]).iterdir()) == [
        "answer.json",
        "model.pt2",
    ]


def test_torchscript_with_outputs_by_name_and_workers(tmp_path: Path) -> None:
    file = save_torchscript(Mixer(), tmp_path / "mixer.pt", MIXER)
    with runtime(tmp_path, f"file://{file}", OPTIMIZE="compile", WORKERS="2") as process:
        process.wait_ready(LONG)
        eventually(lambda: "worker 2 serves" in str(process.lines), "two workers")
        for rows in (1, 3):
            given = [
                {"name": "values", "datatype": "FP32", "shape": [rows, 2], "data": [1.0, 2.0] * rows},
                {"name": "counts", "datatype": "INT64", "shape": [rows], "data": [3] * rows},
            ]
            for _ in range(8):  # each on a connection of its own: both workers get some
                answer = httpx.post(
                    f"{process.url}/v2/models/tiny/infer", json={"inputs": given}, timeout=PATIENCE
                )
                found = {output["name"]: output["data"] for output in answer.json()["outputs"]}
                assert found == {"scaled": [3.0, 6.0] * rows, "raised": [13] * rows}


def test_without_a_compiler_it_says_which_image_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    told = refused(tmp_path, save_affine(tmp_path / "affine.pt2"), OPTIMIZE="compile")
    assert "runtime.optimize is compile, but the model cannot be compiled: this container has no C++" in told
    assert "runtime-compile" in told
    assert "runtime.compileImage" in told
    assert "pack --compile" in told
    assert list((tmp_path / "cache" / "compiled").iterdir()) == []


def played(folder: Path, does: str) -> str:
    """Return the path of a compiler that can tell its version, and does this when it is to compile."""
    compiler = folder / "g++"
    version = 'case "$*" in *--version*) echo "g++ 12.2.0"; exit 0;; esac'
    compiler.write_text(f"#!/bin/sh\n{version}\n{does}\n")
    compiler.chmod(0o755)
    return str(compiler)


def test_a_process_that_is_killed_while_it_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", played(tmp_path, "kill -9 $PPID"))
    file = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{file}", OPTIMIZE="compile") as process:
        assert process.wait(LONG) != 0
        words = process.last_words()
    assert words is not None
    assert not words.permanent  # the next start may find more memory
    assert "the process that compiles was ended by signal 9; is memory enough?" in words.message


def test_a_server_that_is_to_end_ends_what_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "note"
    monkeypatch.setenv("CXX", played(tmp_path, f"echo $PPID $$ >> {note}; exec sleep 1000"))
    file = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{file}", OPTIMIZE="compile") as process:
        process.wait_listening()
        eventually(lambda: note.exists() and note.read_text().endswith("\n"), "compiling", LONG)
        compiling, compiler = map(int, note.read_text().splitlines()[0].split())
        process.terminate()
        process.wait()
        eventually(lambda: ended(compiling), "ended")
        os.kill(compiler, signal.SIGKILL)  # in a container it would go with the first process


def test_what_the_compiler_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", played(tmp_path, 'echo "model.cpp:7:1: error: out of tea" >&2; exit 1'))
    told = refused(tmp_path, save_affine(tmp_path / "affine.pt2"), OPTIMIZE="compile")
    assert "torch does not compile it: model.cpp:7:1: error: out of tea; set it to none" in told


def test_a_graph_that_branches(tmp_path: Path) -> None:
    signature = {**AFFINE_SIGNATURE, "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]}
    file = save_torchscript(Moody(), tmp_path / "moody.pt", json.loads(json.dumps(signature)))
    assert "does not take made-up inputs" in refused(tmp_path, file, OPTIMIZE="compile")
