"""Recorded rollouts: kept as lines of JSON, drawn the same every time, and what is drawn is what was seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dev.rollouts.drawing import HEIGHT, WIDTH, draw
from dev.rollouts.recording import Act, Answers, Begun, Line, Model, Pod, Recording, read, write
from dev.rollouts.watching import Recorder
from pilothouse.api.conditions import Phase

SVG = "{http://www.w3.org/2000/svg}"
OLD, NEW = "digits-aaaaaaaaaa", "digits-bbbbbbbbbb"
VERSIONS = {OLD: "1", NEW: "2"}


def canary() -> Recording:
    """A canary rollout of two replicas: a step of 33 %, then all, and one request lost on the way."""
    lines: list[Line] = [
        Begun(0, 'Canary <of "two">', "1", "2", 2),
        Model(0, OLD, "Complete", weight_reached=100, versions={OLD: "1"}),
        Pod(0, "a1", OLD, True),
        Pod(0, "a2", OLD, True),
        Act(5, "kubectl apply v2"),
        Model(5.2, NEW, "Progressing", 1, 1, versions=VERSIONS),
        Pod(6, "b1", NEW, False),
        Pod(10, "b1", NEW, True),
        Model(10.5, NEW, "Shifting", 1, 1, 20, 33, versions=VERSIONS),
        Model(12, NEW, "Shifting", 1, 1, 20, 33, message="measured", versions=VERSIONS),
        Model(20, NEW, "Promoting", 1, 1, 20, 33, versions=VERSIONS),
        Pod(24, "b2", NEW, True),
        Model(25, NEW, "Complete", versions=VERSIONS, weight_reached=100),
        Pod(30, "a1", OLD, False),
        Pod(31, "a2", OLD, False),
    ]
    for at in range(1, 35):
        new = 0 if at < 11 else 10 if at < 25 else 30
        lines.append(Answers(at, {"1": 30 - new, "2": new} if new else {"1": 30}, int(at == 27)))
    return Recording(tuple(sorted(lines, key=lambda line: line.at)))


def elements(recording: Recording, tag: str, look: str = "") -> list[ElementTree.Element]:
    root = ElementTree.fromstring(draw(recording))  # noqa: S314 - our own drawing
    return [e for e in root.iter(f"{SVG}{tag}") if not look or e.get("class") == look]


def texts(recording: Recording) -> list[str]:
    return [str(e.text) for e in elements(recording, "text")]


def test_a_recording_comes_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "canary.jsonl"
    write(canary().lines, file)
    assert read(file) == canary()
    assert len(file.read_text().splitlines()) == len(canary().lines)


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"saw": "Ghost", "at": 1}', '{"saw": "Act", "at": 1}'])
def test_a_line_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.jsonl"
    write(canary().lines[:1], file)
    file.write_text(f"{file.read_text()}{text}\n")
    with pytest.raises(ValueError, match=r"bad.jsonl:2: no line of a recording"):
        read(file)


def test_ready_pods_are_counted_by_version() -> None:
    assert canary().ready_pods() == [
        (0, {"1": 1, "2": 0}),
        (0, {"1": 2, "2": 0}),
        (10, {"1": 2, "2": 1}),
        (24, {"1": 2, "2": 2}),
        (30, {"1": 1, "2": 2}),
        (31, {"1": 0, "2": 2}),
    ]


def test_shares_are_of_the_seconds_around() -> None:
    shares = dict(canary().shares(window=2))
    assert shares[9] == 0
    assert shares[10] == pytest.approx(10 / 90)
    assert shares[20] == pytest.approx(1 / 3)
    assert shares[34] == 1


def test_the_weight_is_the_new_version_s_on_the_way_back_too() -> None:
    there = canary()
    assert there.weights() == [(0, 0), (10.5, 33), (25, 100)]
    back = Model(35, OLD, "Progressing", weight_reached=0, versions=VERSIONS)
    over = Model(40, OLD, "Complete", weight_reached=100, versions=VERSIONS)
    assert Recording((*there.lines, back, over)).weights()[-2:] == [(25, 100), (40, 0)]


def test_phases_and_steps_follow_each_other_without_a_gap() -> None:
    segments = canary().segments()
    assert [(s.phase, s.step) for s in segments] == [
        (Phase.COMPLETE, None),
        (Phase.PROGRESSING, 1),
        (Phase.SHIFTING, 1),
        (Phase.PROMOTING, 1),
        (Phase.COMPLETE, None),
    ]
    assert [s.end for s in segments[:-1]] == [s.start for s in segments[1:]]
    assert segments[-1].end == canary().end


def test_what_became_of_the_requests_is_told() -> None:
    assert (canary().requests, canary().failed) == (34 * 30 + 1, 1)
    assert "1,021 requests over new connections, 1 failed" in texts(canary())
    assert len(elements(canary(), "rect", "lost")) == 1


def test_the_drawing_says_what_was_done_and_where_the_rollout_stood() -> None:
    said = texts(canary())
    assert {'Canary <of "two">', "kubectl apply v2", "step 1: 20 %", "Progressing", "version 1"} <= set(said)
    assert [f"{at} s" for at in range(0, 35, 5)] == [text for text in said if re.fullmatch(r"\d+ s", text)]
    assert len(elements(canary(), "rect", "shifting")) == 1
    assert {e.get("x1") for e in elements(canary(), "line", "act")} == {"157"}


def test_a_phase_without_room_for_its_name_has_a_shorter_one_or_none() -> None:
    waits = Model(5.2, NEW, "AwaitingPromotion", versions=VERSIONS)
    over = Model(8.5, NEW, "Complete", versions=VERSIONS)
    begun, *rest = (line for line in canary().lines if not isinstance(line, Model) or line.at < 5)
    said = texts(Recording((begun, *sorted((*rest, waits, over), key=lambda line: line.at))))
    assert "awaiting" in said
    assert "AwaitingPromotion" not in said


def test_nothing_is_drawn_outside_the_card() -> None:
    points = [
        tuple(map(float, place.split(",")))
        for tag in ("polygon", "polyline")
        for element in elements(canary(), tag)
        for place in str(element.get("points")).split()
    ]
    assert points
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_the_top_of_the_pods_is_the_sum_of_both_versions() -> None:
    (area,) = elements(canary(), "polygon", "old")[:1]
    heights = [float(place.split(",")[1]) for place in str(area.get("points")).split()]
    top, bottom = min(heights), max(heights)
    assert heights[0] > top  # two pods at first, four at most
    assert bottom - top == pytest.approx(110, abs=0.5)


def pod(name: str, *, ready: bool, stopping: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"pilothouse.dev/revision": NEW}}
    if stopping:
        metadata["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"conditions": conditions}}


def test_only_changes_are_recorded_and_nothing_of_what_was_there_before(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.note(Begun(0, "title", "1", "2", 1))
    recorder.pod(pod("left-over", ready=True, stopping=True), "ADDED")
    recorder.pod(pod("b1", ready=False), "ADDED")
    recorder.pod(pod("b1", ready=False), "MODIFIED")
    recorder.pod(pod("b1", ready=True), "MODIFIED")
    recorder.pod(pod("b1", ready=True, stopping=True), "MODIFIED")
    recorder.pod(pod("b1", ready=True, stopping=True), "DELETED")
    status = {"rollout": {"revision": NEW, "phase": "Shifting", "step": 1, "weight": 20, "weightReached": 33}}
    for message in ("", "", "measured"):
        status["rollout"]["message"] = message
        recorder.model({"status": status})
    recorder.write(tmp_path / "seen.jsonl")
    _, *seen = read(tmp_path / "seen.jsonl").lines
    assert [line.ready for line in seen if isinstance(line, Pod)] == [False, True, False]
    assert [line.message for line in seen if isinstance(line, Model)] == ["", "measured"]


def test_answers_are_what_came_since_the_last_tally(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.note(Begun(0, "title", "1", "2", 1))
    for one, two, failed in ((100, 0, 1), (110, 5, 1), (110, 25, 3)):
        versions = {"1": {"rows": one}, "2": {"rows": two}}
        recorder.answers({"versions": versions, "failed": failed})
    recorder.write(tmp_path / "seen.jsonl")
    seen = [line for line in read(tmp_path / "seen.jsonl").lines if isinstance(line, Answers)]
    assert [(line.versions, line.failed) for line in seen] == [({"1": 10, "2": 5}, 0), ({"2": 20}, 2)]


def test_the_same_recording_is_drawn_the_same(tmp_path: Path) -> None:
    write(canary().lines, tmp_path / "a.jsonl")
    assert draw(read(tmp_path / "a.jsonl")) == draw(canary())
    assert "prefers-color-scheme: dark" in draw(canary())
