"""KServe's own clients, as its users have them, against our server and a model whose answers are known."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dev.bench.environments import ensure
from tests.support.runtime_process import PATIENCE, runtime
from tests.support.tiny_models import save_mixer

ASKS = Path(__file__).parents[2] / "support" / "kserve_clients.py"

SCALED, RAISED = [3.0, -4.0, -1.0, -16.0], [12, 6]
ANSWER = {
    "model": "tiny",
    "id": "17",
    "outputs": {"scaled": ["FP32", [2, 2], SCALED], "raised": ["INT64", [2], RAISED]},
}
NO_MODEL = "there is no model 'large' here; this server has 'tiny'"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What KServe's clients made of our answers. Their packages do not go with ours: they have an environment."""
    environment = ensure("kserve", print)
    folder = tmp_path_factory.mktemp("kserve")
    model = save_mixer(folder / "mixer.pt2")
    with runtime(folder, f"file://{model}") as process:
        process.wait_ready()
        asked = subprocess.run(
            [environment.python, ASKS, process.url, f"127.0.0.1:{process.grpc_port}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    answers: dict[str, Any] = json.loads(asked.stdout)
    return answers


def test_version_2_over_http(found: dict[str, Any]) -> None:
    http = found["http"]
    assert http["live"] is http["ready"] is http["model_ready"] is True
    assert http["json"] == http["binary"] == ANSWER
    status, message = http["error"]
    assert status == 404
    assert message.startswith(NO_MODEL)


def test_version_1_over_http(found: dict[str, Any]) -> None:
    http = found["http"]
    assert http["v1_ready"] is True
    assert http["rows"] == {
        "predictions": [{"scaled": SCALED[:2], "raised": 12}, {"scaled": SCALED[2:], "raised": 6}]
    }
    assert http["columns"] == {"outputs": {"scaled": [SCALED[:2], SCALED[2:]], "raised": RAISED}}
    status, message = http["v1_error"]
    assert status == 400
    assert message.startswith("instances[0]: must be an object with values, counts; got a number")


def test_grpc(found: dict[str, Any]) -> None:
    asked = found["grpc"]
    assert asked["live"] is asked["ready"] is asked["model_ready"] is True
    assert asked["typed"] == asked["raw"] == ANSWER
    assert asked["one"] == ANSWER | {"outputs": {"raised": ["INT64", [2], RAISED]}}
    assert asked["error"] == ["NOT_FOUND", NO_MODEL]
