"""The configuration of one validation, from the environment that the operator sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pilothouse_runtime import contract
from pilothouse_runtime.core.settings import bad_setting, choice, digest, log_level, number, required
from pilothouse_runtime.validate.scores import Metric


@dataclass(frozen=True)
class ValidationSettings:
    """What the environment says."""

    model_name: str
    uri: str
    digest: str | None  # 64 hexadecimal digits
    metric: Metric
    url: str  # of the revision; no slash at its end
    stable_url: str | None  # answers are compared with those from here; None: with the data set's outputs
    timeout: float  # seconds
    log_level: str


def read_validation_settings(environ: Mapping[str, str]) -> ValidationSettings:
    """Read the variables of `contract`.

    Raises:
        LoadError: InvalidConfiguration; names the variable and its rule.
    """
    stable = environ.get(contract.ENV_VALIDATION_STABLE_URL, "")
    return ValidationSettings(
        model_name=required(environ, contract.ENV_MODEL_NAME),
        uri=required(environ, contract.ENV_VALIDATION_URI),
        digest=digest(environ, contract.ENV_VALIDATION_DIGEST),
        metric=Metric(choice(environ, contract.ENV_VALIDATION_METRIC, list(Metric), "")),
        url=_base_url(contract.ENV_VALIDATION_URL, required(environ, contract.ENV_VALIDATION_URL)),
        stable_url=_base_url(contract.ENV_VALIDATION_STABLE_URL, stable) if stable else None,
        timeout=number(environ, contract.ENV_VALIDATION_TIMEOUT, 300),
        log_level=log_level(environ),
    )


def _base_url(name: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise bad_setting(name, "must be the base URL of a server, as in http://10.0.0.7")
    return url.rstrip("/")
