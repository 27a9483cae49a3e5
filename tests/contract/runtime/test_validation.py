"""The real validation program against real servers: what it measures, and how it says that it cannot."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pilothouse.api import rollout
from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason, LastWords, ValidationReport
from pilothouse_runtime.validate.scores import Metric
from tests.support.badserver import BadServer
from tests.support.runtime_process import (
    ROOT,
    RuntimeProcess,
    eventually,
    runtime,
    start_validation,
    validate,
    validated,
)
from tests.support.tiny_models import (
    AFFINE_SIGNATURE,
    Affine,
    Bomb,
    Moody,
    bomb,
    save_exported,
    save_mixer,
    save_torchscript,
)

ROWS = 70  # two full batches and a part of one
SAME_SHAPE = {
    "inputs": AFFINE_SIGNATURE["inputs"],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
}
NOT_DONE = FailureReason.VALIDATION_NOT_DONE
FAILED = FailureReason.VALIDATION_FAILED


@pytest.fixture(scope="module")
def affine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """A server of Affine, any number of rows."""
    folder = tmp_path_factory.mktemp("affine")
    with runtime(folder, f"file://{save_torchscript(Affine(), folder / 'affine.pt')}") as process:
        process.wait_ready()
        yield process


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(ROWS, 3)).astype(np.float32)


def right(x: np.ndarray) -> np.ndarray:
    """What Affine answers."""
    with torch.inference_mode():
        return Affine()(torch.from_numpy(x)).numpy()


def write(folder: Path, **arrays: Any) -> str:
    """Write a data set, in whose names __ stands for the dot, and return its uri."""
    np.savez(folder / "golden.npz", **{name.replace("__", "."): array for name, array in arrays.items()})
    return f"file://{folder}/golden.npz"


def report(folder: Path, data: str, url: str, **environment: str) -> ValidationReport:
    """Run a validation that computes its metric."""
    ended = validate(folder, data, url, **environment)
    assert ended.report is not None, ended
    assert (ended.code, ended.words) == (0, None)
    assert ended.lines[-1]["msg"] == ended.report.message
    return ended.report


def words(folder: Path, data: str, url: str, **environment: str) -> LastWords:
    """Run a validation that gives up."""
    ended = validate(folder, data, url, **environment)
    assert ended.words is not None, ended
    assert (ended.code, ended.report) == (1, None)
    told = [line for line in ended.lines if line["level"] == "error"]
    assert [line["msg"] for line in told] == [ended.words.message]
    return ended.words


def test_accuracy_by_class_numbers(tmp_path: Path, affine: RuntimeProcess, inputs: np.ndarray) -> None:
    labels = right(inputs).argmax(1)
    labels[:7] = 1 - labels[:7]
    found = report(tmp_path, write(tmp_path, input__x=inputs, output__y=labels), affine.url)
    assert found == ValidationReport(
        "accuracy", 63 / 70, 70, "accuracy 0.9 (70 rows, outputs y, against the data set)"
    )


@pytest.mark.parametrize(("metric", "value"), [("meanSquaredError", 0.25 / 140), ("maxDifference", 0.5)])
def test_differences(
    tmp_path: Path, affine: RuntimeProcess, inputs: np.ndarray, metric: str, value: float
) -> None:
    expected = right(inputs).astype(np.float64)
    expected[69, 1] += 0.5
    data = write(tmp_path, input__x=inputs, output__y=expected)
    found = report(tmp_path, data, affine.url + "/", VALIDATION_METRIC=metric)
    assert (found.metric, found.rows) == (metric, 70)
    assert found.value == pytest.approx(value, rel=1e-5)


def test_several_inputs_and_outputs_of_which_some_are_compared(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    counts = np.array([1, 2, 3, 4])
    with runtime(tmp_path, f"file://{save_mixer(tmp_path / 'mixer.pt2')}") as process:
        process.wait_ready()
        arrays = {"input__counts": counts, "input__values": values, "output__raised": counts + 12}
        found = report(tmp_path, write(tmp_path, **arrays), process.url, VALIDATION_METRIC="maxDifference")
        assert (found.value, found.message) == (
            2,
            "maxDifference 2 (4 rows, outputs raised, against the data set)",
        )
        arrays |= {"output__raised": counts + 10, "output__scaled": values * counts[:, None]}
        found = report(tmp_path, write(tmp_path, **arrays), process.url, VALIDATION_METRIC="maxDifference")
        assert found.value == 0


class Shifted(torch.nn.Module):
    """Affine, and one more in every element."""

    def __init__(self) -> None:
        super().__init__()
        self.affine = Affine()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return y."""
        return {"y": self.affine(x) + 1}


def test_against_a_stable_revision_that_takes_four_rows_at_a_time(
    tmp_path: Path, affine: RuntimeProcess, inputs: np.ndarray
) -> None:
    stable = save_exported(Shifted(), tmp_path / "shifted.pt2", (torch.zeros(4, 3),), None)
    with runtime(tmp_path, f"file://{stable}") as process:
        process.wait_ready()
        assert process.get("/v2/models/tiny")[1]["inputs"][0]["shape"] == [4, 3]
        # The stable revision is taken at its word: what the data set expects does not count, its outputs' names do.
        names = {"maxDifference": {}, "accuracy": {"output__y": np.zeros(ROWS)}}
        for metric, value in (("maxDifference", 1), ("accuracy", 1)):
            found = report(
                tmp_path,
                write(tmp_path, input__x=inputs, **names[metric]),
                affine.url,
                VALIDATION_STABLE_URL=process.url,
                VALIDATION_METRIC=metric,
            )
            assert (found.value, found.rows) == (pytest.approx(value, abs=1e-5), 70)
            assert "against the stable revision's answers" in found.message
        # And the other way round: the batches are those of the revision that is validated.
        found = report(
            tmp_path,
            write(tmp_path, input__x=inputs),
            process.url,
            VALIDATION_STABLE_URL=affine.url,
            VALIDATION_METRIC="meanSquaredError",
        )
        assert (found.value, found.rows) == (pytest.approx(1, abs=1e-5), 70)


@pytest.mark.parametrize("metric", list(Metric))
def test_nan_is_no_number_to_compare_with(
    tmp_path: Path, affine: RuntimeProcess, inputs: np.ndarray, metric: Metric
) -> None:
    expected = right(inputs)
    inputs[40] = np.nan
    found = report(
        tmp_path, write(tmp_path, input__x=inputs, output__y=expected), affine.url, VALIDATION_METRIC=metric
    )
    assert math.isnan(found.value)
    assert found.rows == 70
    assert found.message.startswith(
        f"{metric} is not a number: output 'y' of row 40 holds NaN or infinity in the answer"
    )


def test_a_revision_that_is_still_loading_is_waited_for(tmp_path: Path, inputs: np.ndarray) -> None:
    data = write(tmp_path, input__x=inputs, output__y=right(inputs))
    with runtime(tmp_path, f"file://{save_torchscript(Affine(), tmp_path / 'affine.pt')}") as process:
        process.wait_listening()
        ended = validate(tmp_path, data, process.url)
        assert ended.report is not None
        assert ended.report.value == 1
        assert any("it answered 503: the model is not loaded yet" in line["msg"] for line in ended.lines)


def test_a_model_that_fails_on_a_row(tmp_path: Path, inputs: np.ndarray) -> None:
    moody = save_torchscript(Moody(), tmp_path / "moody.pt", SAME_SHAPE)
    x = np.abs(inputs)
    x[69] = -1
    with runtime(tmp_path, f"file://{moody}") as process:
        process.wait_ready()
        found = words(tmp_path, write(tmp_path, input__x=x, output__y=x), process.url)
        assert (found.reason, found.permanent) == (FAILED, True)
        assert found.message.startswith("the new revision: it answered 500: the model failed:")
        assert "I do not like negative numbers" in found.message
        # The same of a stable revision says nothing of the new one.
        stable = words(
            tmp_path, write(tmp_path, input__x=x), process.url, VALIDATION_STABLE_URL=process.url + "/nowhere"
        )
        assert (stable.reason, stable.permanent) == (NOT_DONE, False)
        assert stable.message.startswith("the stable revision: it answered 404")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (
            {"input__z": (ROWS, 3)},
            "it answered 400: inputs: the model has no input 'z'; it takes x FP32 [-1, 3]",
        ),
        ({"input__x": (ROWS, 4)}, "it answered 400: input 'x': expected shape [-1, 3], got [32, 4]"),
        ({"output__z": (ROWS, 2)}, "it answered 400: outputs: the model has no output 'z'; it gives y"),
        (
            {"output__y": (ROWS, 3)},
            "output 'y' has the shape [rows, 2] in the answer, which does not go with",
        ),
    ],
)
def test_names_and_shapes_that_are_not_the_models(
    tmp_path: Path, affine: RuntimeProcess, arrays: dict[str, tuple[int, ...]], told: str
) -> None:
    shapes: dict[str, tuple[int, ...]] = {"input__x": (ROWS, 3), "output__y": (ROWS, 2)}
    kinds = {name.partition("__")[0] for name in arrays}
    shapes = arrays | {name: shape for name, shape in shapes.items() if name.partition("__")[0] not in kinds}
    data = write(tmp_path, **{name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    found = words(tmp_path, data, affine.url)
    assert (found.reason, found.permanent) == (FAILED, True)
    assert told in found.message


@pytest.mark.parametrize("name", ["golden.npz", "objects.npz", "truncated.npz", "single.npy", "html"])
def test_a_file_that_is_no_data_set(tmp_path: Path, affine: RuntimeProcess, name: str) -> None:
    mark = tmp_path / "code-has-run"
    good = tmp_path / "good.npz"
    np.savez(good, **{"input.x": np.ones((5, 3), np.float32), "output.y": np.ones(5, np.int64)})
    np.savez(tmp_path / "objects.npz", **{"input.x": np.array([Bomb(mark)], dtype=object)})
    np.save(tmp_path / "single.npy", np.ones(5))
    files = {
        "golden.npz": bomb(mark),
        "truncated.npz": good.read_bytes()[:-40],
        **{path.name: path.read_bytes() for path in (tmp_path / "objects.npz", tmp_path / "single.npy")},
    }
    told = {
        "golden.npz": "is no .npz file but a pickle (torch.save without zip, joblib or pickle), which could run any",
        "objects.npz": "holds an array 'input.x' that is not read: Object arrays cannot be loaded",
        "truncated.npz": "is it cut off?",
        "single.npy": "is no .npz file but a single array (.npy)",
        "html": "a page of HTML or XML (text/html; charset=utf-8) that says 'Sign in Please log in'",
    }
    with BadServer(files) as server:
        way = "html" if name == "html" else "good"
        found = words(tmp_path, f"{server.url}/{way}/{name}", affine.url)
    assert (found.reason, found.permanent) == (NOT_DONE, True)
    assert found.message.startswith("the data set ")
    assert told[name] in found.message
    assert not mark.exists()


def test_a_data_set_that_cannot_be_had(tmp_path: Path, affine: RuntimeProcess) -> None:
    with BadServer({}) as server:
        found = words(tmp_path, f"{server.url}/good/golden.npz?token=secret", affine.url)
    assert (found.reason, found.permanent) == (NOT_DONE, True)
    assert found.message == (
        f"the data set: {server.url}/good/golden.npz: the server answered 404 Not Found; check"
        " rollout.validation.uri and who may read it"
    )
    found = words(tmp_path, "pvc://models/golden.npz", affine.url)
    assert (found.reason, found.permanent) == (NOT_DONE, False)


def test_a_data_set_from_a_claim_and_its_digest(
    tmp_path: Path, affine: RuntimeProcess, inputs: np.ndarray
) -> None:
    (tmp_path / "pvc").mkdir()
    write(tmp_path / "pvc", input__x=inputs, output__y=right(inputs))
    digest = hashlib.sha256((tmp_path / "pvc/golden.npz").read_bytes()).hexdigest()
    good = report(tmp_path, "pvc://m/golden.npz", affine.url, VALIDATION_DIGEST=f"sha256:{digest}")
    assert good.value == 1
    found = words(tmp_path, "pvc://m/golden.npz", affine.url, VALIDATION_DIGEST=f"sha256:{'0' * 64}")
    assert (found.reason, found.permanent) == (NOT_DONE, True)
    assert f"the file has sha256:{digest}, but rollout.validation.digest is sha256:000" in found.message


def test_nobody_answers(tmp_path: Path, inputs: np.ndarray) -> None:
    data = write(tmp_path, input__x=inputs, output__y=right(inputs))
    with BadServer({}) as server:
        gone = server.url
    found = words(tmp_path, data, gone, VALIDATION_TIMEOUT_SECONDS="1.5")
    assert (found.reason, found.permanent) == (NOT_DONE, False)
    assert found.message == (
        "not done within 1.5 s; the last that happened: the new revision at"
        f" {gone}/v2/models/tiny: cannot connect: Connection refused"
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_revision_is_asked_again(tmp_path: Path, inputs: np.ndarray, status: int) -> None:
    data = write(tmp_path, input__x=inputs, output__y=right(inputs))
    with BadServer({}) as server:
        url = f"{server.url}/{status}"
        found = words(tmp_path, data, url, VALIDATION_TIMEOUT_SECONDS="1.5")
        assert server.counts[f"/{status}/v2/models/tiny"] >= 2
    assert (found.reason, found.permanent) == (NOT_DONE, False)
    assert found.message.endswith(f"the new revision at {url}/v2/models/tiny: it answered {status}")


@pytest.mark.parametrize("who", ["data", "model"])
def test_somebody_who_never_answers(tmp_path: Path, inputs: np.ndarray, who: str) -> None:
    data = write(tmp_path, input__x=inputs, output__y=right(inputs))
    with BadServer({}) as server:
        silent = f"{server.url}/silent"
        places = (f"{silent}/golden.npz", server.url) if who == "data" else (data, silent)
        found = words(tmp_path, *places, VALIDATION_TIMEOUT_SECONDS="1.5")
    assert (found.reason, found.permanent) == (NOT_DONE, False)
    asked = silent if who == "data" else "the new revision"
    assert f"not done within 1.5 s; the last that happened: asking {asked}" in found.message


def test_ended_from_outside_it_says_nothing(tmp_path: Path, inputs: np.ndarray) -> None:
    data = write(tmp_path, input__x=inputs, output__y=right(inputs))
    with BadServer({}) as server:
        program = start_validation(tmp_path, data, f"{server.url}/silent")
        eventually(lambda: server.counts["/silent/v2/models/tiny"] == 1, "asked")
        program.terminate()
        ended = validated(tmp_path, program)
    assert (ended.code, ended.report, ended.words) == (143, None, None)


def test_a_termination_log_that_cannot_be_written(
    tmp_path: Path, affine: RuntimeProcess, inputs: np.ndarray
) -> None:
    (tmp_path / "validation-log").mkdir()
    data = write(tmp_path, input__x=inputs, output__y=right(inputs))
    _, told = start_validation(tmp_path, data, affine.url).communicate()
    lines = [json.loads(line)["msg"] for line in told.splitlines()]
    assert lines[-2:] == [
        "accuracy 1 (70 rows, outputs y, against the data set)",
        f"cannot write {tmp_path}/validation-log: Is a directory",
    ]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {"VALIDATION_METRIC": "f1"},
            "PILOTHOUSE_VALIDATION_METRIC: must be one of accuracy, meanSquaredError, max",
        ),
        ({"VALIDATION_URL": "10.0.0.7"}, "PILOTHOUSE_VALIDATION_URL: must be the base URL of a server"),
        (
            {"VALIDATION_URI": "s3://b/x.npz"},
            "PILOTHOUSE_VALIDATION_URI: its scheme must be one of file, http",
        ),
    ],
)
def test_bad_configuration(tmp_path: Path, environment: dict[str, str], told: str) -> None:
    found = words(tmp_path, "file:///x.npz", "http://localhost", **environment)
    assert (found.reason, found.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert told in found.message


def test_it_starts_without_torch() -> None:
    code = "import sys, pilothouse_runtime.validate.program; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "runtime")}, check=True)


def test_metrics_and_command_are_those_of_the_api() -> None:
    assert {str(metric) for metric in Metric} == {str(metric) for metric in rollout.Metric}
    assert contract.VALIDATION_COMMAND[-1] == "pilothouse_runtime.validate"
