"""The configuration of one process, from the environment that the operator sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.signature import SignatureError, parse_signature
from pilothouse_runtime.core.tensors import Signature

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Format(StrEnum):
    """The formats a model may be in; AUTO looks into the file."""

    AUTO = "auto"
    TORCHSCRIPT = "torchscript"
    EXPORTED = "exported"


class Device(StrEnum):
    """What the model runs on; AUTO takes a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Settings:
    """What the environment says; times in seconds."""

    model_name: str
    uri: str
    version: str
    revision: str
    digest: str | None  # 64 hexadecimal digits
    format: Format
    signature: Signature | None
    device: Device
    drain_delay: float
    drain_timeout: float
    max_request_bytes: int
    log_level: str


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the variables of `contract`.

    Raises:
        LoadError: InvalidConfiguration; names the variable and its rule.
    """
    digest = environ.get(contract.ENV_MODEL_DIGEST, "")
    if digest and not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise bad_setting(contract.ENV_MODEL_DIGEST, "must be sha256: and 64 lower-case hexadecimal digits")
    signature_text = environ.get(contract.ENV_MODEL_SIGNATURE, "")
    try:
        signature = parse_signature(signature_text) if signature_text else None
    except SignatureError as error:
        raise bad_setting(contract.ENV_MODEL_SIGNATURE, str(error)) from None
    return Settings(
        model_name=_required(environ, contract.ENV_MODEL_NAME),
        uri=_required(environ, contract.ENV_MODEL_URI),
        version=environ.get(contract.ENV_MODEL_VERSION, "") or "1",
        revision=environ.get(contract.ENV_REVISION, ""),
        digest=digest.removeprefix("sha256:") or None,
        format=Format(_choice(environ, contract.ENV_MODEL_FORMAT, list(Format))),
        signature=signature,
        device=Device(_choice(environ, contract.ENV_DEVICE, list(Device))),
        drain_delay=_number(environ, contract.ENV_DRAIN_DELAY, 5),
        drain_timeout=_number(environ, contract.ENV_DRAIN_TIMEOUT, 25),
        max_request_bytes=int(_number(environ, contract.ENV_MAX_REQUEST_BYTES, 64 * 1024 * 1024)),
        log_level=_choice(environ, contract.ENV_LOG_LEVEL, LOG_LEVELS, "INFO"),
    )


def bad_setting(name: str, rule: str) -> LoadError:
    """Return the failure of a setting that breaks a rule; its value may be a secret and is not told."""
    return LoadError(FailureReason.INVALID_CONFIGURATION, f"{name}: {rule}", permanent=True)


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise bad_setting(name, "must be set")
    return value


def _choice(
    environ: Mapping[str, str], name: str, choices: list[str] | tuple[str, ...], default: str = "auto"
) -> str:
    value = environ.get(name, "") or default
    if value not in choices:
        raise bad_setting(name, f"must be one of {', '.join(choices)}")
    return value


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise bad_setting(name, "must be a number that is not negative")
    return value
