"""The environment of a pod."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Device, Format, read_settings
from pilothouse_runtime.core.tensors import Datatype, TensorSpec

ROOT = Path(__file__).parents[3]
LEAST = {contract.ENV_MODEL_NAME: "digits", contract.ENV_MODEL_URI: "file:///m.pt"}


def test_the_least_that_must_be_said() -> None:
    settings = read_settings(LEAST)
    assert (settings.model_name, settings.uri, settings.version, settings.digest) == (
        "digits",
        "file:///m.pt",
        "1",
        None,
    )
    assert (settings.format, settings.device, settings.signature) == (Format.AUTO, Device.AUTO, None)
    assert (settings.drain_delay, settings.drain_timeout) == (5, 25)
    assert (settings.max_request_bytes, settings.max_connection_age) == (64 * 1024 * 1024, 20)
    assert settings.workers == 1


def test_all_that_can_be_said() -> None:
    settings = read_settings(
        LEAST
        | {
            contract.ENV_MODEL_VERSION: "2",
            contract.ENV_MODEL_DIGEST: f"sha256:{'a' * 64}",
            contract.ENV_MODEL_FORMAT: "exported",
            contract.ENV_MODEL_SIGNATURE: '{"inputs": [{"name": "x", "datatype": "INT8", "shape": [-1]}]}',
            contract.ENV_DEVICE: "cpu",
            contract.ENV_REVISION: "digits-1",
            contract.ENV_DRAIN_DELAY: "0.5",
            contract.ENV_DRAIN_TIMEOUT: "3",
            contract.ENV_MAX_REQUEST_BYTES: "10",
            contract.ENV_MAX_CONNECTION_AGE: "0",
            contract.ENV_WORKERS: "8",
            contract.ENV_LOG_LEVEL: "DEBUG",
        }
    )
    assert (settings.version, settings.digest, settings.revision) == ("2", "a" * 64, "digits-1")
    assert (settings.format, settings.device, settings.log_level) == (Format.EXPORTED, Device.CPU, "DEBUG")
    assert settings.signature is not None
    assert settings.signature.inputs == (TensorSpec("x", Datatype.INT8, (-1,)),)
    assert (settings.drain_delay, settings.drain_timeout, settings.max_request_bytes) == (0.5, 3, 10)
    assert (settings.max_connection_age, settings.workers) == (0, 8)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (contract.ENV_MODEL_NAME, "", "must be set"),
        (contract.ENV_MODEL_NAME, "vision/digits", "must hold no /, as it is a part of paths"),
        (contract.ENV_MODEL_URI, "", "must be set"),
        (contract.ENV_MODEL_FORMAT, "pickle", "must be one of auto, torchscript, exported"),
        (contract.ENV_MODEL_FACTORY, "models/resnet.py", "must be a module and a function in it"),
        (contract.ENV_DEVICE, "tpu", "must be one of auto, cpu, cuda"),
        (contract.ENV_MODEL_DIGEST, "sha256:A", "64 lower-case hexadecimal digits"),
        (contract.ENV_MODEL_SIGNATURE, "{", "is not JSON"),
        (contract.ENV_DRAIN_DELAY, "soon", "must be a number that is not negative"),
        (contract.ENV_DRAIN_DELAY, "-1", "must be a number that is not negative"),
        (contract.ENV_DRAIN_TIMEOUT, "inf", "must be a number that is not negative"),
        (contract.ENV_DRAIN_TIMEOUT, "nan", "must be a number that is not negative"),
        (contract.ENV_WORKERS, "0", "must be a whole number from 1 to 64"),
        (contract.ENV_WORKERS, "65", "must be a whole number from 1 to 64"),
        (contract.ENV_WORKERS, "1.5", "must be a whole number from 1 to 64"),
        (contract.ENV_LOG_LEVEL, "LOUD", "must be one of DEBUG, INFO"),
    ],
)
def test_what_breaks_a_rule(name: str, value: str, told: str) -> None:
    with pytest.raises(LoadError) as caught:
        read_settings(LEAST | {name: value})
    assert (caught.value.reason, caught.value.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert caught.value.message.startswith(f"{name}: ")
    assert told in caught.value.message


def test_the_server_comes_up_without_torch() -> None:
    code = "import sys, pilothouse_runtime.app, pilothouse_runtime.workers.supervisor; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "runtime")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_the_guide_knows_every_setting() -> None:
    others = ("ENV_PREFIX", "ENV_VALIDATION", "ENV_FETCH", "ENV_NAMESPACE")  # of other programs
    variables = {
        value.removeprefix(contract.ENV_PREFIX)
        for name, value in vars(contract).items()
        if name.startswith("ENV_") and not name.startswith(others)
    }
    guide = (ROOT / "docs/runtime.md").read_text().partition("### Settings")[2].partition("\n## ")[0]
    told = {
        name for row in re.findall(r"(?m)^\| (`.*?) \|", guide) for name in re.findall(r"`([A-Z_]+)`", row)
    }
    assert told == variables
