"""What the CRD offers is what the runtime can do, neither less nor more."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest

from pilothouse.api import ability, model, runtime, uris
from pilothouse_runtime.core import settings, tensors
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.engine import optimizing, source
from pilothouse_runtime.engine.formats import detect
from pilothouse_runtime.engine.registry import BACKENDS
from pilothouse_runtime.fetch import bringing


def words(kind: type[StrEnum]) -> set[str]:
    return {str(word) for word in kind}


def test_formats_devices_and_schemes() -> None:
    assert words(model.Format) == words(settings.Format)
    assert words(runtime.Device) == words(settings.Device)
    assert set(uris.SCHEMES) == {*source.SCHEMES, *bringing.SCHEMES}


@pytest.mark.parametrize("scheme", uris.SCHEMES)
@pytest.mark.parametrize("with_secret", [False, True])
def test_whoever_is_to_bring_a_model_can(scheme: str, with_secret: bool) -> None:
    if uris.is_fetched(f"{scheme}://a/b", with_secret=with_secret, to_cache=False):
        assert scheme in bringing.SCHEMES
    else:
        assert scheme in source.SCHEMES


def test_datatypes_are_those_of_the_protocol() -> None:
    assert words(model.Datatype) == words(tensors.Datatype)


@pytest.mark.parametrize("wanted", ability.OPTIMIZABLE)
def test_what_can_be_optimized(wanted: runtime.Optimize) -> None:
    whole = {model.Format.AUTO, model.Format.MLFLOW}  # of which a look tells what they are
    able = optimizing.FORMATS[settings.Optimize(wanted)]
    assert {str(format_) for format_ in able} == set(map(str, ability.OPTIMIZABLE[wanted])) - whole
    assert words(runtime.Optimize) == words(settings.Optimize)


def test_formats_that_know_numbers_only() -> None:
    with_texts = {settings.Format.TRANSFORMERS, settings.Format.MLFLOW}
    on_torch = {format_ for format_, backend in BACKENDS.items() if backend.on_torch}
    assert on_torch - with_texts == set(map(str, model.OF_NUMBERS))


@pytest.mark.parametrize("wanted", model.FOLDERS)
@pytest.mark.parametrize(
    "name", ["saved_model.pb", "config.json", "model.safetensors", "MLmodel", "model.py"]
)
def test_no_file_is_of_a_format_of_folders(tmp_path: Path, wanted: model.Format, name: str) -> None:
    file = tmp_path / name
    file.write_text("{}")
    with pytest.raises(LoadError, match=rf"model\.format is {wanted}, but|is of format"):
        detect(file, settings.Format(wanted))
