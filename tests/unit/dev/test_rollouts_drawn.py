"""The drawings in docs/rollouts are those of the recordings beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.rollouts.drawing import draw
from dev.rollouts.recording import read
from dev.rollouts.scenarios import SCENARIOS

FOLDER = Path(__file__).resolve().parents[3] / "docs/rollouts"


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_each_recording_is_drawn(name: str) -> None:
    recording = read(FOLDER / f"{name}.jsonl")
    assert (FOLDER / f"{name}.svg").read_text() == draw(recording), "run `python -m dev.rollouts draw`"
    assert recording.requests > 500


@pytest.mark.parametrize("name", [s.name for s in SCENARIOS if s.name != "canary-aborted"])
def test_not_one_request_failed_that_a_good_version_could_answer(name: str) -> None:
    assert read(FOLDER / f"{name}.jsonl").failed == 0
