"""Parameters of requests, tensors and outputs: what they say is the same in JSON and in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pilothouse_runtime.core.errors import invalid

EXTENSIONS: Final = ("binary_tensor_data",)

# Of extensions that would change where data is or what it means: not answered as if they were not there.
_REFUSED: Final = ("shared_memory_region", "classification")


def check_parameters(field: str, parameters: Mapping[str, Any]) -> None:
    """Check that no parameter asks for an extension that would change the answer and is not here.

    Raises:
        RequestError: names the parameter.
    """
    for name in _REFUSED:
        if name in parameters:
            raise invalid(
                f"{field}.{name}: this server has no such extension; it has {', '.join(EXTENSIONS)}"
            )


def flag(field: str, parameters: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """Return a parameter that must be true or false, which RequestError says."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"{field}.{name}: must be true or false")
    return value


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Return the seconds in the parameter `timeout`, which Triton has in microseconds; None where there is none.

    Raises:
        RequestError: it is no number of microseconds.
    """
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise invalid("parameters.timeout: must be a number of microseconds")
    return timeout / 1e6 if timeout else None  # 0 is Triton's way of saying that there is none
