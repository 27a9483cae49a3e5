"""The operator's environment."""

from __future__ import annotations

import pytest

from pilothouse.config import Config, ConfigError

GOOD = {"PILOTHOUSE_RUNTIME_IMAGE": "pilothouse/runtime:1", "PILOTHOUSE_LEASE_NAMESPACE": "ops"}


def test_what_is_not_said_has_a_default() -> None:
    config = Config.from_environment(GOOD)
    assert (config.namespaces, config.log_level, config.http_port) == ((), "INFO", 8081)


def test_everything_can_be_said() -> None:
    more = {"PILOTHOUSE_NAMESPACES": " vision, speech,vision,", "PILOTHOUSE_LOG_LEVEL": "debug"}
    config = Config.from_environment(GOOD | more | {"PILOTHOUSE_HTTP_PORT": "0"})
    assert config == Config("pilothouse/runtime:1", ("vision", "speech"), "ops", "DEBUG", 0)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PILOTHOUSE_RUNTIME_IMAGE", " "),
        ("PILOTHOUSE_NAMESPACES", "vision,Speech"),
        ("PILOTHOUSE_NAMESPACES", "team-*"),
        ("PILOTHOUSE_LEASE_NAMESPACE", "_"),
        ("PILOTHOUSE_LOG_LEVEL", "loud"),
        ("PILOTHOUSE_HTTP_PORT", "http"),
        ("PILOTHOUSE_HTTP_PORT", "65536"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        Config.from_environment(GOOD | {variable: value})


def test_all_wrong_variables_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"RUNTIME_IMAGE.*LEASE_NAMESPACE.*LOG_LEVEL"):
        Config.from_environment({"PILOTHOUSE_LOG_LEVEL": "loud"})
