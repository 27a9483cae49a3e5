"""What is wrong with a spec, told to the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pilothouse.api.durations import DURATION_PATTERN
from pilothouse.api.model import FACTORY_PATTERN
from pilothouse.api.names import NAME_PATTERN
from pilothouse.api.pods import ENV_NAME_PATTERN, LABEL_VALUE_PATTERN, SUBDOMAIN_PATTERN
from pilothouse.api.quantities import QUANTITY_PATTERN
from pilothouse.api.rollout import DIGEST_PATTERN, PERCENTAGE_PATTERN
from pilothouse.api.runtime import IMAGE_PATTERN
from pilothouse.api.sampling import SAMPLES_URI_PATTERN
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.api.uris import SCHEMES, URI_PATTERN, redacted

_SHOWN = 60
_MANY = 5

# What each pattern means, for people.
PATTERN_MEANINGS: Final = {
    NAME_PATTERN: "must be lower case letters, digits and '-', begin with a letter and end with a letter or digit",
    URI_PATTERN: f"must begin with one of {', '.join(f'{s}://' for s in SCHEMES)} and hold no white space",
    SAMPLES_URI_PATTERN: "must begin with s3://, gs:// or az:// and hold no white space",
    DIGEST_PATTERN: "must be sha256: and 64 lower case hex digits, as sha256sum prints them",
    FACTORY_PATTERN: "must be a module and a function in it, as in my_package.models:resnet",
    IMAGE_PATTERN: "must be an image reference without white space",
    DURATION_PATTERN: 'must be a duration such as "500ms", "30s", "10m" or "1h30m"',
    PERCENTAGE_PATTERN: 'must be a percentage such as "1%" or "0.5%"',
    QUANTITY_PATTERN: 'must be a quantity such as "500m", "2" or "1.5Gi", and not negative',
    ENV_NAME_PATTERN: "must be letters, digits, '_', '-' or '.', and not begin with a digit",
    LABEL_VALUE_PATTERN: "must be letters, digits, '-', '_' or '.', and begin and end with a letter or digit",
    SUBDOMAIN_PATTERN: "must be the name of an object: lower case letters, digits, '-' and '.'",
    f"^$|{SUBDOMAIN_PATTERN}": "must be the name of an object: lower case letters, digits, '-' and '.'",
}

_TYPES: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "float_type": "a number",
    "finite_number": "a finite number",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_SAYINGS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "missing": lambda _: "is required",
    "enum": lambda c: f"must be {c['expected']}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "string_pattern_mismatch": lambda c: PATTERN_MEANINGS[c["pattern"]],
    "string_too_short": lambda c: "must not be empty",
    "string_too_long": lambda c: f"must be at most {c['max_length']} characters long",
    "too_long": lambda c: f"must have at most {c['max_length']} items",
    "greater_than_equal": lambda c: f"must be at least {c['ge']}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "quantity_type": lambda _: 'must be a whole number or text, such as "500m"; put quotes around it',
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what was found there ("" where that is not to be shown), what to do."""

    field: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.field} {self.message}" + (f" (it is {self.value})" if self.value else "")


class InvalidSpec(Exception):  # noqa: N818 - named as the condition reason that it becomes
    """A ModelDeployment that breaks the API's rules; its text is one message for people."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        shown = "; ".join(str(problem) for problem in problems[:_MANY])
        rest = len(problems) - _MANY
        super().__init__(shown + (f"; and {rest} more" if rest > 0 else ""))


def told(error: ErrorDetails) -> Problem:
    """Put one of pydantic's findings about a spec into the words of this API."""
    location = error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(path(location[:-1]), _unknown(location), "")
    if kind in _TYPES:
        message = f"must be {_TYPES[kind]}"
    elif kind in _SAYINGS:
        message = _SAYINGS[kind](context)
    else:
        message = error["msg"]
    if location[-1:] == ("[key]",):
        location = location[:-2]
    return Problem(path(location), message, "" if kind == "missing" else shown(location, error["input"]))


def path(location: tuple[int | str, ...]) -> str:
    """Return a location in the spec as people write it, such as spec.model.inputs[0].shape."""
    text = "spec"
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text


def shown(location: tuple[int | str, ...], value: Any) -> str:
    """Return a value short enough for a message, or "" where it may be a secret or is too large to help."""
    if location[:2] in (("runtime", "env"), ("runtime", "podAnnotations")) or isinstance(value, dict | list):
        return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if not isinstance(value, str):
        return str(value)
    text = redacted(value) if location[-1:] == ("uri",) else value
    return f'"{text}"' if len(text) <= _SHOWN else f'"{text[: _SHOWN - 1]}…"'


def _unknown(location: tuple[int | str, ...]) -> str:
    name = str(location[-1])
    known = sorted(_fields(location[:-1]))
    close = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"known are: {', '.join(known)}"
    return f'has no field "{name[:_SHOWN]}"; {hint}'


def _fields(location: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the names of the fields that the object at `location` can have."""
    model: type[BaseModel] = ModelDeploymentSpec
    for step in location:
        if isinstance(step, int):
            continue
        field = next(f for f in model.model_fields.values() if f.alias == step)
        model = next(_models(field.annotation))
    for field in model.model_fields.values():
        yield str(field.alias)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
