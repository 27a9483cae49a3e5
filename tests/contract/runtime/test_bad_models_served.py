"""Bad models of the corpus in real processes: some of every kind.

All others go the same way in `tests/unit/runtime/test_bad_models.py`, where no process has to start for each.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilothouse_runtime.contract import FailureReason
from tests.support.bad_models import BAD_MODELS
from tests.support.runtime_process import runtime

CHOSEN = (
    "empty", "page", "onnx-called-exported", "exported-cut-0.5", "bomb", "upwards", "link-in-archive", "pickle",
    "native-unasked", "folder-of-two", "link-out", "pipe", "python-unasked", "loader-module", "mlmodel-object",
    # Past the look, into each library:
    "torchscript-raises", "exported-operator", "onnx-raises", "onnx-upwards", "state-dict-with-payload",
    "weights-lacking", "auto-map", "python-raises",
)  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_each_ends_the_process_with_its_reason(name: str, tmp_path: Path) -> None:
    bad = next(bad for bad in BAD_MODELS if bad.id == name)
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
