"""The corpus of bad models, each given to all that the runtime does before it takes requests, in this process."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.settings import Device, Format
from pilothouse_runtime.engine.model import Options
from pilothouse_runtime.engine.selection import select
from tests.support.bad_models import BAD_MODELS, BadModel
from tests.support.tiny_models import torch_bomb


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_there_are_enough_and_each_is_one_of_its_own() -> None:
    assert len(BAD_MODELS) >= 40
    assert max(Counter(bad.id for bad in BAD_MODELS).values()) == 1


def test_the_canary_sings_where_pickles_are_trusted(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(torch_bomb(tmp_path / "canary"))
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "canary").exists()


def made_ready(path: Path, bad: BadModel) -> None:
    """Do with a model what the loader does."""
    selected = select(path, Format(bad.format), None, Options(bad.factory))
    assert not bad.at_a_look
    device = torch.device("cpu") if selected.backend.on_torch else Device.CPU
    selected.warm_up(selected.load(device), 8)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bad", BAD_MODELS, ids=lambda bad: bad.id)
def test_each_fails_and_says_why(bad: BadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, canary = tmp_path / "model", tmp_path / "canary"
    place.mkdir()
    path = bad.make(place, canary)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = tree(tmp_path)
    with pytest.raises(LoadError) as caught:
        made_ready(path, bad)
    failure = caught.value
    assert (failure.reason, failure.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert re.search(bad.told, failure.message, re.DOTALL), failure.message
    assert bad.names in failure.message
    assert not canary.exists()
    assert {name for name in tree(tmp_path) - before if "__pycache__" not in name} == set()
