"""What the CRD offers is what the runtime can do, neither less nor more."""

from __future__ import annotations

from enum import StrEnum

import pytest

from pilothouse.api import model, runtime, uris
from pilothouse_runtime.core import settings, tensors
from pilothouse_runtime.engine import source
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
