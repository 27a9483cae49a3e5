"""The corpus of bad models in real processes: those that a look refuses, and one of each library.

All others go the same way in `tests/unit/runtime/test_bad_models.py`, where no process has to start for each.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilothouse_runtime.contract import FailureReason
from tests.support.bad_models import BAD_MODELS, BadModel
from tests.support.runtime_process import runtime

LOADED = (
    "torchscript-raises", "exported-operator", "onnx-raises", "onnx-upwards", "state-dict-with-payload",
    "weights-lacking", "python-raises",
)  # fmt: skip
CHOSEN = [bad for bad in BAD_MODELS if bad.at_a_look or bad.id in LOADED]


@pytest.mark.parametrize("bad", CHOSEN, ids=lambda bad: bad.id)
def test_each_ends_the_process_with_its_reason(bad: BadModel, tmp_path: Path) -> None:
    place, canary, home = tmp_path / "model", tmp_path / "canary", tmp_path / "home"
    place.mkdir()
    home.mkdir()
    path = bad.make(place, canary)
    before = {*tmp_path.rglob("*")}
    environment = {"MODEL_FORMAT": bad.format, "MODEL_FACTORY": bad.factory}
    with runtime(home, f"file://{path}", **environment) as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason.MODEL_LOAD_FAILED, True)
    assert re.search(bad.told, words.message, re.DOTALL), words.message
    assert bad.names in words.message
    assert not canary.exists()
    written = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} - before
    assert written == {home / "termination-log"}


def test_a_good_share_is_tried() -> None:
    assert len(CHOSEN) >= 40
    assert {bad.id for bad in CHOSEN} >= set(LOADED)
