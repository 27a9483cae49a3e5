"""How models fail: words for a file that cannot be served, and for what a library said."""

from __future__ import annotations

import re

from pilothouse_runtime.contract import ENV_DEVICE, FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import bad_setting


class UnservableError(Exception):
    """A model, or what it returns, cannot be carried by the protocol."""


def unloadable(message: str, *, permanent: bool = True) -> LoadError:
    """Return the failure of a file or folder that cannot be served as a model."""
    return LoadError(FailureReason.MODEL_LOAD_FAILED, message, permanent=permanent)


def not_optimizable(wanted: str, cause: str) -> LoadError:
    """Return the failure of a model that cannot be run as runtime.optimize asks for."""
    message = f"runtime.optimize is {wanted}, but {cause}; set it to none"
    return LoadError(FailureReason.OPTIMIZATION_FAILED, message, permanent=True)


def no_gpu() -> LoadError:
    """Return the failure of a model that is to run on a GPU where there is none, or none that its library can use."""
    return bad_setting(
        ENV_DEVICE, "is cuda, but this container sees no GPU; ask for one in runtime.resources"
    )


def first_cause(error: BaseException) -> str:
    """Return the line of an error that says what is wrong: TorchScript puts it under a trace of its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception): ", line)]
    return (told or lines or [type(error).__name__])[-1 if told else 0]
