"""The configuration of one fetch, from the environment that the operator sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pilothouse_runtime import contract
from pilothouse_runtime.core.settings import digest, log_level, number, required


@dataclass(frozen=True)
class FetchSettings:
    """What the environment says, but for credentials: those are for the module of the uri's scheme."""

    uri: str
    digest: str | None  # 64 hexadecimal digits
    spec_field: str  # under which uri and digest are in the spec
    cache: Path | None  # a folder shared with other pods
    cache_bytes: int  # the most to keep there
    log_level: str


def read_fetch_settings(environ: Mapping[str, str]) -> FetchSettings:
    """Read the variables of `contract`.

    Raises:
        LoadError: InvalidConfiguration; names the variable and its rule.
    """
    cache = environ.get(contract.ENV_FETCH_CACHE, "")
    return FetchSettings(
        uri=required(environ, contract.ENV_FETCH_URI),
        digest=digest(environ, contract.ENV_FETCH_DIGEST),
        spec_field=environ.get(contract.ENV_FETCH_FIELD, "") or "model",
        cache=Path(cache) if cache else None,
        cache_bytes=int(number(environ, contract.ENV_FETCH_CACHE_BYTES, 0)),
        log_level=log_level(environ),
    )
