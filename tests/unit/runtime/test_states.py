"""The phases of a pod: when each began, how long it took, and who may still change them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pilothouse_runtime.contract import TERMINATION_LOG_LIMIT, FailureReason, LastWords, PodReport
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.states import Phase, PhaseTime, Readiness, ready_body
from pilothouse_runtime.process import leave_words


class Clock:
    """A wall clock that is set back in mid-course, and a monotonic one that is not."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.offset = 1_700_000_000.0

    def wall(self) -> float:
        return self.offset + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def readiness(clock: Clock) -> Readiness:
    return Readiness(clock.wall, clock.monotonic)


def test_each_phase_has_its_begin_and_its_length(readiness: Readiness, clock: Clock) -> None:
    clock.elapsed = 1.0
    readiness.enter(Phase.PULLING, "asking")
    clock.elapsed = 3.5
    readiness.enter(Phase.PULLING, "1 of 2 bytes")
    clock.offset -= 3600  # somebody sets the clock back: lengths stay true
    clock.elapsed = 4.5
    readiness.enter(Phase.VERIFIED)
    assert readiness.history == [
        PhaseTime(Phase.STARTING, 1_700_000_000.0, 1.0),
        PhaseTime(Phase.PULLING, 1_700_000_001.0, 3.5),
        PhaseTime(Phase.VERIFIED, 1_699_996_404.5, None),
    ]


def test_what_another_container_did_counts_too(readiness: Readiness, clock: Clock) -> None:
    readiness.enter(Phase.PULLING)
    clock.elapsed = 0.5
    readiness.began_earlier(40)
    readiness.enter(Phase.VERIFIED)
    assert readiness.history[1] == PhaseTime(Phase.PULLING, 1_699_999_960.0, 40.5)


def test_another_message_is_no_other_phase(readiness: Readiness, clock: Clock) -> None:
    readiness.enter(Phase.PULLING, "asking")
    clock.elapsed = 5.0
    assert readiness.enter(Phase.PULLING, "1 of 2 bytes").message == "1 of 2 bytes"
    assert readiness.report().since == 1_700_000_000.0
    assert readiness.report().message == "1 of 2 bytes"


@pytest.mark.parametrize("end", [Phase.DRAINING, Phase.FAILED])
def test_nothing_comes_after_an_end(readiness: Readiness, clock: Clock, end: Phase) -> None:
    readiness.enter(end, "over")
    before = readiness.history
    clock.elapsed = 1.0
    assert readiness.enter(Phase.READY).phase is end
    assert readiness.history == before


def test_the_body_says_all_of_it(readiness: Readiness, clock: Clock) -> None:
    clock.elapsed = 0.25
    readiness.enter(Phase.READY)
    body = ready_body(readiness)
    assert body == {
        "ready": True,
        "state": "Ready",
        "message": "",
        "since": 1_700_000_000.25,
        "history": [
            {"phase": "Starting", "since": 1_700_000_000.0, "seconds": 0.25},
            {"phase": "Ready", "since": 1_700_000_000.25, "seconds": None},
        ],
    }
    assert PodReport.decode(json.dumps(body)) == readiness.report()


def test_a_report_is_of_one_moment(readiness: Readiness) -> None:
    over = threading.Event()

    def move() -> None:
        while not over.is_set():
            readiness.enter(Phase.PULLING)
            readiness.enter(Phase.VERIFIED)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(200):
            report = readiness.report()
            assert report.history[-1].phase is report.phase
            assert report.history[-1].seconds is None
            assert all(entered.seconds is not None for entered in report.history[:-1])
    finally:
        over.set()
        mover.join()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 60_000,
        '{"ready": false, "state": "Fetching", "message": "", "since": 1, "history": []}',
        '{"ready": false, "state": "Pulling", "message": ""}',
        '{"ready": false, "state": "Pulling", "message": "", "since": NaN, "history": []}',
        '{"ready": false, "state": "Pulling", "message": "", "since": 1e300, "history": []}',
        '{"ready": false, "state": "Pulling", "message": "", "since": 1, "history": {"phase": "Pulling"}}',
        '{"ready": false, "state": "Pulling", "message": "", "since": 1, "history": [{"phase": "Pulling"}]}',
        '{"ready": false, "state": ["Pulling"], "message": "", "since": 1, "history": []}',
    ],
)
def test_answers_of_others_are_no_reports(text: str) -> None:
    assert PodReport.decode(text) is None


def _last_words(tmp_path: Path, readiness: Readiness) -> str:
    log = tmp_path / "termination-log"
    failure = LoadError(FailureReason.MODEL_LOAD_FAILED, "no model", permanent=True)
    leave_words(failure, log, readiness.history)
    return log.read_text()


def test_last_words_say_how_far_it_came(readiness: Readiness, clock: Clock, tmp_path: Path) -> None:
    readiness.enter(Phase.LOADING)
    clock.elapsed = 2.0
    readiness.enter(Phase.FAILED, "no model")
    words = LastWords.decode(_last_words(tmp_path, readiness))
    assert words is not None
    assert words.phase is Phase.LOADING
    assert [(entered.phase, entered.seconds) for entered in words.history] == [
        (Phase.STARTING, 0.0),
        (Phase.LOADING, 2.0),
    ]


def test_last_words_without_phases_are_read(tmp_path: Path) -> None:
    text = '{"reason": "ModelLoadFailed", "message": "no model", "permanent": true}'
    words = LastWords(FailureReason.MODEL_LOAD_FAILED, "no model", permanent=True)
    assert LastWords.decode(text) == words
    assert words.encode() == text


@pytest.mark.parametrize("more", ['"phase": "Later"', '"phase": 7', '"phase": "Pulling", "history": [7]'])
def test_last_words_of_a_later_release_are_read(more: str) -> None:
    text = f'{{"reason": "ModelLoadFailed", "message": "no model", "permanent": true, {more}}}'
    assert LastWords.decode(text) == LastWords(FailureReason.MODEL_LOAD_FAILED, "no model", permanent=True)


def test_the_message_gives_way_to_the_phases() -> None:
    history = tuple(PhaseTime(Phase.PULLING, 1_700_000_000.123 + i, 1234.567) for i in range(40))
    words = LastWords(FailureReason.MODEL_LOAD_FAILED, "é" * 9000, True, Phase.PULLING, history)
    text = words.encode()
    assert len(text.encode()) <= TERMINATION_LOG_LIMIT
    read = LastWords.decode(text)
    assert read is not None
    assert read.history == history[-len(read.history) :]
    assert len(read.message) > 100
