"""The commands of `pilothouse-runtime` as real processes, as people and pipelines run them."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from onnx import TensorProto, helper
from safetensors.torch import save_file

from pilothouse_runtime.core.manifest import Manifest
from pilothouse_runtime.core.tensors import Datatype, Signature, TensorSpec
from pilothouse_runtime.digests import digest_of
from tests.support.runtime_process import PATIENCE, ROOT
from tests.support.trained_models import Convolutional, Plain, examples
from tests.support.written_models import onnx_model, save_onnx

TRAIN = """
import torch
from tests.support.trained_models import Convolutional, Plain, Stubborn

torch.manual_seed(1)
network = Convolutional()
stubborn = Stubborn()

def make():
    return Plain()

class Picture(torch.nn.Module):
    def forward(self, pixels, threshold):
        return {"mean": pixels.mean((1, 2, 3)), "above": pixels.amax((1, 2, 3)) > threshold}

picture = Picture()
"""
HEAVY = re.compile(r"import time:.*\b(torch|uvloop|onnxruntime|keras|transformers)$", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'runtime'}:{ROOT}", **more}


def cli(*words: str | Path, cwd: Path | None = None, before: Sequence[str] = (), **more: str) -> Ended:
    """Run a command to its end; `before` it, in the line, what changes how it is run."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "pilothouse_runtime", *map(str, words)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass
class Serving:
    """A `serve` that runs: the curl line that it printed, and its log so far."""

    process: subprocess.Popen[str]
    line: str
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        found = re.search(r"http://localhost:\d+", self.line)
        assert found, self.line
        return found[0]

    def curl(self) -> Any:
        """Run the line in a shell, and return what was answered."""
        done = subprocess.run(
            ["sh", "-c", self.line], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return json.loads(done.stdout)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Start `serve` with the given words and wait for its line; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path) -> Serving:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pilothouse_runtime",
                "serve",
                "--port",
                "0",
                "--grpc-port",
                "0",
                *map(str, words),
            ],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        log: list[str] = []
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: log.extend(process.stderr or []), daemon=True).start()
        threading.Thread(
            target=lambda: lines.put((process.stdout or sys.stdin).readline()), daemon=True
        ).start()
        return Serving(process, lines.get(timeout=PATIENCE).strip(), log)

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training project: train.py, examples, golden rows with labels, and what `pack` made of them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "train.py").write_text(TRAIN)
    images = examples(Convolutional, rows=40)["image"]
    np.savez(folder / "examples.npz", image=images[:4])
    labels = np.arange(40) % 10
    np.savez(folder / "held-out.npz", **{"input.image": images, "output.logits": labels})
    picture = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)
    np.savez(folder / "pictures.npz", pixels=picture, threshold=np.ones(2, np.float32))
    words = ("-e", "examples.npz", "--golden", "held-out.npz", "-o", "models/digits", "--version", "3")
    done = cli("pack", "train:network", *words, cwd=folder)
    assert done.code == 0, done.err
    (folder / "deployment.yaml").write_text(done.out)
    (folder / "told.txt").write_text(done.err)
    return folder


def test_pages_and_quick_commands_import_nothing_heavy(project: Path) -> None:
    for words in (
        ["--help"],
        *(["pack", "--help"], ["serve", "--help"], ["validate", "--help"], ["digest", "--help"]),
    ):
        done = cli(*words, PYTHONPROFILEIMPORTTIME="1")
        assert done.code == 0
        assert HEAVY.findall(done.err) == []
        assert len(done.out.splitlines()) > 10
    overview = cli("--help").out
    assert all(
        name in overview
        for name in ("pack", "serve", "validate", "digest", "--grpc-port", "PILOTHOUSE_MODEL_URI")
    )
    done = cli("digest", project / "models/digits", PYTHONPROFILEIMPORTTIME="1")
    assert (done.code, HEAVY.findall(done.err), "numpy" in done.err) == (0, [], False)
    done = cli("validate", project / "held-out.npz", "--url", "http://localhost:1", "--model", "m", "--timeout", "0.1",
               PYTHONPROFILEIMPORTTIME="1")  # fmt: skip
    assert (done.code, HEAVY.findall(done.err)) == (3, [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pck"], "'pck' is no command; there are pack, serve, validate, digest, each with --help"),
        (["--nope"], "unrecognized arguments: --nope"),
        (["digest"], "the following arguments are required: PATH"),
        (["digest", "/no/such"], "argument PATH: /no/such does not exist"),
        (["serve", "/", "--port", "x"], "argument --port: 'x' must be a whole number from 0 to 65535"),
        (["serve", "/", "--workers", "0"], "argument --workers: '0' must be a whole number of 1 or more"),
        (["serve", "/", "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["validate", "/dev/null", "--model", "m"], "the following arguments are required: --url"),
        (["validate", "/dev/null", "--model", "m", "--url", "host"], "argument --url: 'host' must be the base URL"),
        (
            ["validate", "/dev/null", "--model", "m", "--url", "http://h", "--metric", "f1"],
            "argument --metric: 'f1' is none of accuracy, meanSquaredError, maxDifference",
        ),
        (["validate", "/dev/null", "--model", "m", "--url", "http://h", "--min", "1"], "say which with --metric"),
        (["pack", "train:m", "-o", "out"], "the following arguments are required: -e/--example-inputs"),
        (["pack", "train", "-e", "/dev/null", "-o", "out"], "argument MODEL: train is neither a file nor module:attr"),
        (["pack", "a:b", "-e", "/dev/null", "-o", "out", "--dynamic", "x=1"], "--dynamic: 'x=1' must be INPUT:AXIS"),
    ],
)  # fmt: skip
def test_wrong_use_names_the_argument_and_its_rule(words: list[str], told: str) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_without_a_command_the_environment_says_what_is_served(tmp_path: Path) -> None:
    log = tmp_path / "last-words"
    done = cli("--port", "0", "--termination-log", log)
    assert done.code == 1
    assert json.loads(log.read_text())["message"] == "PILOTHOUSE_MODEL_NAME: must be set"


def test_digests_are_those_of_coreutils(project: Path, tmp_path: Path) -> None:
    folder = project / "models/digits"
    line = "find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    expected = subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert cli("digest", folder).out == f"sha256:{expected.split()[0]}\n"
    assert cli("digest", folder / "model.pt2").out == f"{digest_of(folder / 'model.pt2')}\n"
    (tmp_path / "link").symlink_to(folder)
    done = cli("digest", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "'link' is a symbolic link" in done.err


def test_pack_prints_what_to_apply_and_tells_what_it_did(project: Path) -> None:
    model = yaml.safe_load((project / "deployment.yaml").read_text())["spec"]["model"]
    assert model["digest"] == digest_of(project / "models/digits")
    assert (model["version"], model["format"]) == ("3", "exported")
    told = (project / "told.txt").read_text()
    assert "inputs   image FP32 [-1, 64]\n" in told
    assert "outputs  logits FP32 [-1, 10]\n" in told
    assert re.search(r"answers  differ by at most [0-9.e-]+ from the offline answers\n", told)
    assert "golden   40 rows; offline: accuracy 0." in told


def test_pack_on_a_disk_that_is_full_tells_it_and_leaves_nothing(project: Path) -> None:
    """As far as torch can see: no file of this process may be longer than 4 KiB."""
    np.savez(project / "few.npz", x=examples(Plain)["x"][:2])
    for form in ("exported", "torchscript"):
        words = ["pack", "train:make()", "-e", "few.npz", "-o", "models/full", "--format", form]
        done = cli(*words, cwd=project, before=("prlimit", "--fsize=4096"))
        assert (done.code, done.out) == (1, ""), done.err
        assert f"folder: cannot write {project / 'models/full'}: File too large" in done.err
    assert not [path for path in (project / "models").iterdir() if "full" in path.name]


def test_pack_takes_factories_and_weights_and_tells_why_not(project: Path) -> None:
    x = examples(Plain)["x"]
    np.savez(project / "plain.npz", x=x)
    weights = Plain()
    save_file(weights.state_dict(), project / "plain.safetensors")
    words = ("-e", "plain.npz", "--weights", "plain.safetensors", "-o", "models/plain", "--output", "logits")
    done = cli("pack", "train:make()", *words, cwd=project)
    assert done.code == 0, done.err
    assert "outputs  logits FP32 [-1, 3]\n" in done.err
    with torch.inference_mode():
        want = weights.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.load(project / "models/plain/golden.npz")["output.logits"], want, atol=1e-6)
    np.savez(project / "two.npz", x=np.ones((2, 2), np.float32))
    done = cli("pack", "train:stubborn", "-e", "two.npz", "-o", "models/stubborn", cwd=project)
    assert (done.code, done.out) == (1, "")
    assert "torch.export does not take it: " in done.err
    assert "Traceback" not in done.err
    assert not (project / "models/stubborn").exists()
    done = cli("pack", "train:nothing", "-e", "two.npz", "-o", "models/none", cwd=project)
    assert (done.code, done.out) == (1, "")
    assert "there is no 'nothing' in train" in done.err


def test_what_is_packed_is_served_asked_and_validated(project: Path, serve: Any) -> None:
    server = serve(project / "models/digits", "--batch-size", "8")
    assert server.line.startswith(f"curl -s {server.url}/v2/models/digits/infer -d ")
    assert any(f"ready: {server.url}/v2/models/digits (gRPC: localhost:" in line for line in server.log)
    (answer,) = server.curl()["outputs"]
    golden = np.load(project / "models/digits/golden.npz")
    assert (answer["name"], answer["shape"]) == ("logits", [1, 10])
    assert golden["output.logits"].shape == (40,)
    address = ("--url", server.url, "--model", "digits")
    done = cli("validate", project / "held-out.npz", *address, "--json")
    report = json.loads(done.out)
    told = re.search(r"accuracy ([0-9.]+)", (project / "told.txt").read_text())
    metrics = {result["metric"]: result for result in report["metrics"]}
    assert told
    assert (done.code, report["rows"], report["passed"]) == (0, 40, True)
    assert metrics["accuracy"]["value"] == pytest.approx(float(told[1]))
    assert metrics["accuracy"]["passed"] is True
    # What could not be computed has neither passed nor failed.
    assert (metrics["maxDifference"]["value"], metrics["maxDifference"]["passed"]) == (None, None)
    assert "needs the same shape" in metrics["maxDifference"]["message"]
    accuracy = metrics["accuracy"]["value"]
    for bounds, code, said in (
        (("--metric", "accuracy", "--min", str(accuracy)), 0, "passed"),
        (("--metric", "accuracy", "--min", str(accuracy + 0.01)), 1, "FAILED"),
        (("--metric", "accuracy", "--max", str(accuracy - 0.01)), 1, "FAILED"),
        (("--metric", "maxDifference", "--max", "1"), 1, "FAILED, it cannot be computed: "),
    ):
        done = cli("validate", project / "held-out.npz", *address, *bounds)
        assert done.code == code, done
        assert said in done.out
        assert f"digits at {server.url}, 40 rows, outputs logits\n" in done.out
    done = cli("validate", project / "held-out.npz", "--url", server.url, "--model", "other")
    assert (done.code, done.out) == (1, "")
    assert "it answered 404: there is no model 'other' here" in done.err
    assert server.end(signal.SIGINT) == 0
    done = cli("validate", project / "held-out.npz", *address, "--timeout", "1")
    assert (done.code, done.out) == (3, "")
    assert "not done within 1 s; the last that happened: digits at" in done.err


def test_large_inputs_get_a_line_too_and_workers_serve_as_in_pods(project: Path, serve: Any) -> None:
    done = cli("pack", "train:picture", "-e", "pictures.npz", "-o", "models/picture", cwd=project)
    assert done.code == 0, done.err
    server = serve(project / "models/picture", "--workers", "2", "--name", "pictures of mine")
    assert server.line.startswith("python3 -c ")
    assert len(server.line) < 1000
    assert {output["name"]: output["data"] for output in server.curl()["outputs"]} == {
        "mean": [0.0],
        "above": [False],
    }
    assert server.end() == 0


def test_texts_of_a_golden_data_set_make_a_line_too(tmp_path: Path, serve: Any) -> None:
    nodes = [helper.make_node("Identity", ["text"], ["same"])]
    graph = onnx_model(nodes, {"text": ["n"]}, {"same": ["n"]}, kind=TensorProto.STRING)
    file = save_onnx(tmp_path / "echo/model.onnx", graph)
    texts = [TensorSpec(name, Datatype.BYTES, (-1,)) for name in ("text", "same")]
    signature = Signature((texts[0],), (texts[1],))
    manifest = Manifest(file.name, "onnx", signature, {file.name: digest_of(file)})
    (file.parent / "pilothouse.json").write_text(manifest.encode())
    for rows, shown in (
        (np.array(["it's Straße", "b"]), "it's Straße"),
        (np.array([b"\xff", b"b"]), "text"),  # JSON cannot carry it: made up
        (np.array(["long " * 1000, "b"]), "text"),  # nobody reads such a line
    ):
        np.savez(file.parent / "golden.npz", **{"input.text": rows})
        server = serve(file.parent)
        assert server.line.startswith(f"curl -s {server.url}/v2/models/echo/infer -d "), server.log
        assert server.curl()["outputs"][0]["data"] == [shown]
        assert server.end() == 0


@pytest.mark.parametrize(
    ("last", "told"),
    [("os._exit(3)", "ended with exit code 3"), ("os.kill(os.getpid(), 9)", "was ended by SIGKILL")],
)
def test_a_server_that_dies_is_told_of(tmp_path: Path, last: str, told: str) -> None:
    (tmp_path / "model.py").write_text(f"import os\n{last}\n")
    done = cli("serve", tmp_path, "--format", "python", "--port", "0", "--grpc-port", "0")
    assert (done.code, done.out) == (1, "")
    assert (
        f"pilothouse-runtime serve: the server {told}, without a word: by the model's own code, or"
        in done.err
    )


def test_what_cannot_be_served_ends_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("no model")
    done = cli("serve", tmp_path / "model.txt", "--port", "0", "--grpc-port", "0")
    assert (done.code, done.out) == (1, "")
    assert "error: model.txt is no model but a text file" in done.err


def test_interrupted_commands_say_so_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **{"input.x": np.ones(3), "output.y": np.ones(3)})
    words = ["validate", str(tmp_path / "golden.npz"), "--url", "http://localhost:1", "--model", "m"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pilothouse_runtime", *words],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        waiting = process.stderr.readline()
        assert (
            "m at http://localhost:1/v2/models/m: cannot connect: Connection refused; it is asked" in waiting
        )
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "pilothouse-runtime validate: interrupted\n"
    assert process.returncode == 130


def test_a_result_that_nobody_can_have_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = f"exec {sys.executable} -m pilothouse_runtime digest {tmp_path / 'file'} > /dev/full"
    done = subprocess.run(
        ["sh", "-c", line], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    told = "pilothouse-runtime digest: standard output cannot be written: No space left on device"
    assert (done.returncode, done.stderr) == (1, f"{told}; nothing else failed\n")


def test_paths_that_cannot_be_looked_at_are_wrong_use(tmp_path: Path) -> None:
    done = cli(
        "digest", tmp_path / ("x" * 300)
    )  # as one in a folder of somebody else's, for those who are not root
    assert (done.code, done.out) == (2, "")
    assert "File name too long" in done.err
    assert "Traceback" not in done.err


def test_a_data_set_that_cannot_be_used_says_nothing_of_the_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", x=np.ones(3))
    done = cli("validate", tmp_path / "golden.npz", "--url", "http://localhost:1", "--model", "m")
    assert (done.code, done.out) == (3, "")
    assert "holds 'x', which is neither input.NAME nor output.NAME" in done.err
