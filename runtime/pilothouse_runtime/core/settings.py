"""The configuration of one process, from the environment that the operator sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.signature import SignatureError, parse_signature
from pilothouse_runtime.core.tensors import Signature

_MOST_WORKERS = 64
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Format(StrEnum):
    """The formats a model may be in; AUTO looks into the file or folder."""

    AUTO = "auto"
    TORCHSCRIPT = "torchscript"
    EXPORTED = "exported"
    AOTINDUCTOR = "aotinductor"
    SAFETENSORS = "safetensors"
    STATEDICT = "statedict"
    ONNX = "onnx"
    KERAS = "keras"
    TENSORFLOW = "tensorflow"
    TRANSFORMERS = "transformers"
    MLFLOW = "mlflow"
    PYTHON = "python"


class Device(StrEnum):
    """What the model runs on; AUTO takes a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Optimize(StrEnum):
    """How a model is run otherwise than its file says; NONE is as it says, but for what changes no answer."""

    NONE = "none"
    COMPILE = "compile"
    BF16 = "bf16"
    INT8 = "int8"
    MMAP = "mmap"


@dataclass(frozen=True)
class Sampling:
    """Which requests are kept, and where: a share of them, so many a minute, in a folder or a store of objects.

    Attributes:
        directory: or ""; its files hold `max_bytes` together.
        uri: of bucket and prefix, or ""; an object holds `max_bytes`.
    """

    rate: float
    directory: str
    per_minute: int
    max_bytes: int
    uri: str = ""


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
    max_connection_age: float  # 0 is for ever
    batch_max_size: int  # rows
    batch_max_delay: float
    access_log: bool
    log_level: str
    workers: int = 1  # processes
    optimize: Optimize = Optimize.NONE
    factory: str = ""  # module:function
    explain: bool = False
    drift_profile: str = ""  # uri
    drift_digest: str | None = None
    sampling: Sampling | None = None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the variables of `contract`.

    Raises:
        LoadError: InvalidConfiguration; names the variable and its rule.
    """
    signature_text = environ.get(contract.ENV_MODEL_SIGNATURE, "")
    try:
        signature = parse_signature(signature_text) if signature_text else None
    except SignatureError as error:
        raise bad_setting(contract.ENV_MODEL_SIGNATURE, str(error)) from None
    return Settings(
        model_name=_name(environ),
        uri=required(environ, contract.ENV_MODEL_URI),
        version=environ.get(contract.ENV_MODEL_VERSION, "") or "1",
        revision=environ.get(contract.ENV_REVISION, ""),
        digest=digest(environ, contract.ENV_MODEL_DIGEST),
        format=Format(choice(environ, contract.ENV_MODEL_FORMAT, list(Format))),
        signature=signature,
        device=Device(choice(environ, contract.ENV_DEVICE, list(Device))),
        drain_delay=number(environ, contract.ENV_DRAIN_DELAY, 5),
        drain_timeout=number(environ, contract.ENV_DRAIN_TIMEOUT, 25),
        max_request_bytes=int(number(environ, contract.ENV_MAX_REQUEST_BYTES, 64 * 1024 * 1024)),
        max_connection_age=number(environ, contract.ENV_MAX_CONNECTION_AGE, 20),
        batch_max_size=max(1, int(number(environ, contract.ENV_BATCH_MAX_SIZE, 32))),
        batch_max_delay=number(environ, contract.ENV_BATCH_MAX_DELAY, 2) / 1000,
        access_log=choice(environ, contract.ENV_ACCESS_LOG, ("0", "1"), "0") == "1",
        log_level=log_level(environ),
        workers=_workers(environ),
        optimize=Optimize(choice(environ, contract.ENV_OPTIMIZE, list(Optimize), Optimize.NONE)),
        factory=_factory(environ),
        explain=choice(environ, contract.ENV_EXPLAIN, ("0", "1"), "0") == "1",
        drift_profile=_alone(environ, contract.ENV_DRIFT_PROFILE),
        drift_digest=digest(environ, contract.ENV_DRIFT_DIGEST),
        sampling=_sampling(environ),
    )


def _workers(environ: Mapping[str, str]) -> int:
    count = number(environ, contract.ENV_WORKERS, 1)
    if count not in range(1, _MOST_WORKERS + 1):
        raise bad_setting(contract.ENV_WORKERS, f"must be a whole number from 1 to {_MOST_WORKERS}")
    return int(count)


def _factory(environ: Mapping[str, str]) -> str:
    value = environ.get(contract.ENV_MODEL_FACTORY, "")
    if value and not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", value, re.ASCII):
        raise bad_setting(
            contract.ENV_MODEL_FACTORY, "must be a module and a function in it, as in package.models:resnet"
        )
    return value


def _sampling(environ: Mapping[str, str]) -> Sampling | None:
    rate = number(environ, contract.ENV_SAMPLING_RATE, 0)
    if not rate:
        return None
    if rate > 1:
        raise bad_setting(contract.ENV_SAMPLING_RATE, "must be a number from 0 to 1")
    _alone(environ, contract.ENV_SAMPLING_RATE)
    uri = environ.get(contract.ENV_SAMPLING_URI, "")
    if uri and environ.get(contract.ENV_SAMPLING_DIRECTORY, ""):
        raise bad_setting(contract.ENV_SAMPLING_URI, f"leave it out, or {contract.ENV_SAMPLING_DIRECTORY}")
    if uri and not re.fullmatch(r"(s3|gs|az)://[^\s/?#]+/([^\s?#]*/)?", uri):
        raise bad_setting(
            contract.ENV_SAMPLING_URI,
            "must be s3, gs or az, a bucket and a prefix, as in s3://samples/digits/",
        )
    return Sampling(
        rate,
        "" if uri else required(environ, contract.ENV_SAMPLING_DIRECTORY),
        int(number(environ, contract.ENV_SAMPLING_PER_MINUTE, 60)),
        int(number(environ, contract.ENV_SAMPLING_MAX_BYTES, 64 * 1024 * 1024)),
        uri,
    )


def _alone(environ: Mapping[str, str], name: str) -> str:
    """Return a value that is for one process only: of several, each would see and tell a part."""
    value = environ.get(name, "")
    if value and _workers(environ) > 1:
        raise bad_setting(name, f"needs one process; leave it out, or {contract.ENV_WORKERS}")
    return value


def _name(environ: Mapping[str, str]) -> str:
    value = required(environ, contract.ENV_MODEL_NAME)
    if "/" in value:  # which no client can send, however it is written
        raise bad_setting(contract.ENV_MODEL_NAME, "must hold no /, as it is a part of paths")
    return value


def bad_setting(name: str, rule: str) -> LoadError:
    """Return the failure of a setting that breaks a rule; its value may be a secret and is not told."""
    return LoadError(FailureReason.INVALID_CONFIGURATION, f"{name}: {rule}", permanent=True)


def required(environ: Mapping[str, str], name: str) -> str:
    """Return a value that must not be empty. This and the functions below raise LoadError as `read_settings` does."""
    value = environ.get(name, "")
    if not value:
        raise bad_setting(name, "must be set")
    return value


def digest(environ: Mapping[str, str], name: str) -> str | None:
    """Return the 64 hexadecimal digits of a sha256:..., or None where the variable is empty."""
    value = environ.get(name, "")
    if value and not re.fullmatch("sha256:[0-9a-f]{64}", value):
        raise bad_setting(name, "must be sha256: and 64 lower-case hexadecimal digits")
    return value.removeprefix("sha256:") or None


def log_level(environ: Mapping[str, str]) -> str:
    """Return the level from which on lines are logged."""
    return choice(environ, contract.ENV_LOG_LEVEL, _LOG_LEVELS, "INFO")


def choice(environ: Mapping[str, str], name: str, choices: Sequence[str], default: str = "auto") -> str:
    """Return a value that must be one of `choices`."""
    value = environ.get(name, "") or default
    if value not in choices:
        raise bad_setting(name, f"must be one of {', '.join(choices)}")
    return value


def number(environ: Mapping[str, str], name: str, default: float) -> float:
    """Return a number that must not be negative."""
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise bad_setting(name, "must be a number that is not negative")
    return value
