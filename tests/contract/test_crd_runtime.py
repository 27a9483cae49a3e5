"""What the CRD offers is what the runtime can do, neither less nor more."""

from __future__ import annotations

from enum import StrEnum

from pilothouse.api import spec, uris
from pilothouse_runtime.core import settings, tensors
from pilothouse_runtime.engine import source


def words(kind: type[StrEnum]) -> set[str]:
    return {str(word) for word in kind}


def test_formats_devices_and_schemes() -> None:
    assert words(spec.Format) == words(settings.Format)
    assert words(spec.Device) == words(settings.Device)
    assert set(uris.SCHEMES) == set(source.SCHEMES)


def test_datatypes_are_those_of_the_protocol() -> None:
    assert words(spec.Datatype) == words(tensors.Datatype)
