"""The operator's environment."""

from __future__ import annotations

import pytest

from pilothouse.config import Config, ConfigError
from pilothouse.plan.fetching import Cache

GOOD = {"PILOTHOUSE_RUNTIME_IMAGE": "pilothouse/runtime:1", "PILOTHOUSE_LEASE_NAMESPACE": "ops"}


def test_what_is_not_said_has_a_default() -> None:
    config = Config.from_environment(GOOD)
    assert (config.namespaces, config.log_level, config.http_port) == ((), "INFO", 8081)
    assert config.prometheus_url == ""
    assert not config.cache.is_there


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        (
            {"PILOTHOUSE_CACHE_HOST_PATH": "/var/models", "PILOTHOUSE_CACHE_SIZE": "1.5Gi"},
            Cache("/var/models", "", 1610612736),
        ),
        ({"PILOTHOUSE_CACHE_CLAIM": "models"}, Cache("", "models", 0)),
    ],
)
def test_pods_may_share_models(variables: dict[str, str], cache: Cache) -> None:
    assert Config.from_environment(GOOD | variables).cache == cache


def test_everything_can_be_said() -> None:
    more = {"PILOTHOUSE_NAMESPACES": " vision, speech,vision,", "PILOTHOUSE_LOG_LEVEL": "debug"}
    more |= {"PILOTHOUSE_HTTP_PORT": "0", "PILOTHOUSE_PROMETHEUS_URL": "https://prometheus:9090/tenant/"}
    config = Config.from_environment(GOOD | more)
    url = "https://prometheus:9090/tenant"
    assert config == Config("pilothouse/runtime:1", ("vision", "speech"), "ops", "DEBUG", 0, url)


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
        ("PILOTHOUSE_CACHE_SIZE", "much"),
        ("PILOTHOUSE_CACHE_HOST_PATH", "models"),
        ("PILOTHOUSE_CACHE_HOST_PATH", "/var/../etc"),
        ("PILOTHOUSE_PROMETHEUS_URL", "prometheus:9090"),
        ("PILOTHOUSE_PROMETHEUS_URL", "ftp://prometheus"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://prometheus:x"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://prometheus:99999"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://[::1"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://prometheus/?x=1"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://prometheus/#x"),
        ("PILOTHOUSE_PROMETHEUS_URL", "http://robot@prometheus"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        Config.from_environment(GOOD | {variable: value})


def test_there_is_one_cache() -> None:
    both = {"PILOTHOUSE_CACHE_HOST_PATH": "/var/models", "PILOTHOUSE_CACHE_CLAIM": "models"}
    with pytest.raises(ConfigError, match="PILOTHOUSE_CACHE_CLAIM"):
        Config.from_environment(GOOD | both)


def test_all_wrong_variables_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"RUNTIME_IMAGE.*LEASE_NAMESPACE.*LOG_LEVEL"):
        Config.from_environment({"PILOTHOUSE_LOG_LEVEL": "loud"})


def test_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="without credentials") as caught:
        Config.from_environment(GOOD | {"PILOTHOUSE_PROMETHEUS_URL": "http://robot:s3cret@prometheus"})
    assert "s3cret" not in str(caught.value)
