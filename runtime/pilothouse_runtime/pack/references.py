"""Objects by reference: module:attribute, as the user's own Python would import them."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime.core.errors import PackError

# A module, an attribute of it, and () where that is to be called for the model.
_REFERENCE: Final = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_][\w.]*)(?P<call>\(\))?")


def is_reference(text: str) -> bool:
    """Say whether a text has the form module:attribute or module:attribute()."""
    return _REFERENCE.fullmatch(text) is not None


def resolve(text: str) -> Any:
    """Import what a reference names, from the current directory too, and return it, or what calling it returns.

    Raises:
        PackError: there is no such thing; or what the user's code raised.
    """
    match = _REFERENCE.fullmatch(text)
    if not match:
        raise PackError(
            f"MODEL: {text!r} is neither a file nor module:attribute, as in train:model or train:make()"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(match["module"])
    except ModuleNotFoundError as error:
        raise PackError(
            f"MODEL: {text}: there is no module {error.name!r}; it is looked for from {here}"
        ) from error
    except Exception as error:
        raise PackError(
            f"MODEL: {text}: importing {match['module']} failed: {type(error).__name__}: {error}"
        ) from error
    for name in match["attribute"].split("."):
        if not hasattr(found, name):
            raise PackError(f"MODEL: {text}: there is no {name!r} in {getattr(found, '__name__', found)}")
        found = getattr(found, name)
    if not match["call"]:
        return found
    try:
        return found()
    except Exception as error:
        raise PackError(f"MODEL: {text} failed: {type(error).__name__}: {error}") from error
