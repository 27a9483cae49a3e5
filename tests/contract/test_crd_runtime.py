"""What the CRD offers is what the runtime can do, neither less nor more."""

from __future__ import annotations

from pilothouse.api import spec, uris
from pilothouse_runtime.core import settings, tensors
from pilothouse_runtime.engine import source


def test_formats_devices_and_schemes() -> None:
    assert set(spec.Format) == set(settings.Format)
    assert set(spec.Device) == set(settings.Device)
    assert set(uris.SCHEMES) == set(source.SCHEMES)


def test_datatypes_are_those_of_the_protocol_that_a_torch_tensor_can_have() -> None:
    assert set(spec.Datatype) == set(tensors.Datatype) - {tensors.Datatype.BYTES}
