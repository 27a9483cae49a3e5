"""The environment of a validation's pod."""

from __future__ import annotations

import pytest

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.validate.scores import Metric
from pilothouse_runtime.validate.settings import ValidationSettings, read_validation_settings

LEAST = {
    contract.ENV_MODEL_NAME: "digits",
    contract.ENV_VALIDATION_URI: "pvc://models/golden.npz",
    contract.ENV_VALIDATION_METRIC: "maxDifference",
    contract.ENV_VALIDATION_URL: "http://10.0.0.7",
}


def test_the_least_and_the_most_that_can_be_said() -> None:
    assert read_validation_settings(LEAST) == ValidationSettings(
        model_name="digits",
        uri="pvc://models/golden.npz",
        digest=None,
        metric=Metric.MAX_DIFFERENCE,
        url="http://10.0.0.7",
        stable_url=None,
        timeout=300,
        log_level="INFO",
    )
    all_said = read_validation_settings(
        LEAST
        | {
            contract.ENV_VALIDATION_DIGEST: f"sha256:{'a' * 64}",
            contract.ENV_VALIDATION_STABLE_URL: "http://[fd00::7]:8080/",
            contract.ENV_VALIDATION_TIMEOUT: "1.5",
            contract.ENV_LOG_LEVEL: "DEBUG",
        }
    )
    assert (all_said.digest, all_said.timeout, all_said.log_level) == ("a" * 64, 1.5, "DEBUG")
    assert all_said.stable_url == "http://[fd00::7]:8080"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        *((name, "", "must be") for name in LEAST),
        (
            contract.ENV_VALIDATION_METRIC,
            "Accuracy",
            "must be one of accuracy, meanSquaredError, maxDifference",
        ),
        (contract.ENV_VALIDATION_DIGEST, "sha256:1", "must be sha256: and 64"),
        (contract.ENV_VALIDATION_URL, "10.0.0.7:8080", "must be the base URL of a server"),
        (contract.ENV_VALIDATION_URL, "http://", "must be the base URL of a server"),
        (contract.ENV_VALIDATION_STABLE_URL, "http://h/?x=1", "must be the base URL of a server"),
        (contract.ENV_VALIDATION_TIMEOUT, "soon", "must be a number that is not negative"),
    ],
)
def test_rules(name: str, value: str, rule: str) -> None:
    with pytest.raises(LoadError) as caught:
        read_validation_settings(LEAST | {name: value})
    assert (caught.value.reason, caught.value.permanent) == (FailureReason.INVALID_CONFIGURATION, True)
    assert caught.value.message.startswith(f"{name}: {rule}")
