"""Rules that no type, pattern or bound can say, each defined once for the CRD (CEL) and the operator (Python)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

# Words that CEL keeps for itself (Kubernetes documentation, "Validation rules", on escaping).
_CEL_WORD: Final = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return"
)


@dataclass(frozen=True)
class Rule:
    """One rule about an object of the spec.

    Attributes:
        field: the field of the object to blame, in YAML's spelling; "" for the object as a whole.
        message: what is wrong and what to do; begins where the field's name ends.
        holds: whether the object (a model that is valid otherwise) keeps the rule.
        cel: the same in the Common Expression Language, `self` being the object. It must not count on defaults: the
            API server also tries it on a default such as {} as it stands. None where the API server already sees
            to it by other means or CEL cannot say it on every Kubernetes from 1.25 on.
    """

    field: str
    message: str
    holds: Callable[[Any], bool]
    cel: str | None

    @property
    def text(self) -> str:
        """The message with the field's name before it."""
        return f"{self.field} {self.message}".lstrip()


def in_cel(field: str) -> str:
    """Return how a rule in CEL must spell a field: the API server gives a word of CEL's own another name."""
    return f"__{field}__" if _CEL_WORD.fullmatch(field) else field


def one_of(words: Iterable[str]) -> str:
    """Return words as CEL writes a list, to stand after `in`."""
    return f"[{', '.join(repr(str(word)) for word in words)}]"


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` is found in `text` as RE2 (the API server, CEL) finds it: `$` is the very end of the text."""
    return re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None


def unfilled(schema: dict[str, Any]) -> None:
    """Keep a field's default from the API server, for a field that is younger than the first release.

    What the server filled in, an operator of before would take for a field that it does not know: it would refuse
    every model until it is upgraded itself.
    """
    schema.pop("default")


def _add_cel(schema: dict[str, Any], model: type[Any]) -> None:
    rules: tuple[Rule, ...] = model.rules
    cel = [{"rule": rule.cel, "message": rule.text} for rule in rules if rule.cel is not None]
    if cel:
        schema["x-kubernetes-validations"] = cel


class SpecModel(BaseModel):
    """An object of the spec: camelCase outside, nothing unknown, nothing converted, never changed.

    Subclasses put their rules into `rules`. Building a model does not check them: `violations` does, so that
    all that is wrong can be told at once.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, json_schema_extra=_add_cel
    )

    rules: ClassVar[tuple[Rule, ...]] = ()


def violations(model: SpecModel, path: str) -> Iterator[tuple[str, Rule]]:
    """Yield the path of the field to blame and the rule, for each rule that `model` or an object in it breaks."""
    for rule in model.rules:
        if not rule.holds(model):
            yield f"{path}.{rule.field}" if rule.field else path, rule
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        where = f"{path}.{field.alias}"
        if isinstance(value, SpecModel):
            yield from violations(value, where)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, SpecModel):
                    yield from violations(item, f"{where}[{index}]")
