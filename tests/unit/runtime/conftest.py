"""Models that several tests only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_models import Affine, save_affine, save_mixer, save_torchscript


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with affine.pt, bare.pt (no signature), affine.pt2 and mixer.pt2."""
    folder = tmp_path_factory.mktemp("models")
    save_torchscript(Affine(), folder / "affine.pt")
    save_torchscript(Affine(), folder / "bare.pt", None)
    save_affine(folder / "affine.pt2")
    save_mixer(folder / "mixer.pt2")
    return folder
