"""The pure parts of the benchmarks: what wrk says, which settings count, what the tables and goals tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dev.bench import environments, goals, machine, tables
from dev.bench.bodies import Form, read, write
from dev.bench.checks import same
from dev.bench.choosing import best_of_each, best_peer, contenders, of, ratio, together
from dev.bench.figures import Figure, Importing, Loop, Report
from dev.bench.limits import pss
from dev.bench.page import between, body
from dev.bench.plots import draw
from dev.bench.settings import PEERS
from dev.bench.subjects import BOUND, OURS
from dev.bench.wrk import Load, WrkError, parse
from dev.shell import ROOT


def load(rate: float, p99: float = 2.0) -> Load:
    return Load(rate, p99 / 2, p99, int(rate), {})


def figure(subject: str, rate: float, label: str = "plain", clients: int = 16, **more: object) -> Figure:
    known = {"seconds": (1.0,), "memory": (400_000_000,), "at_first": (300_000_000,), **more}
    return Figure(subject, label, "JSON", clients, (load(rate),), **known)  # type: ignore[arg-type]


def summary(**changes: int) -> str:
    said = {"requests": 1000, "duration": 2_000_000, "bytes": 1, "p50": 500, "p99": 2500, "max": 9, "mean": 1}
    failures = dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0)
    return f"Running 2s test @ http://...\n  1 threads\n{json.dumps({**said, **failures, **changes})}\n"


class TestWrk:
    def test_times_are_milliseconds_and_rates_a_second(self) -> None:
        assert parse(summary()) == Load(500.0, 0.5, 2.5, 1000, {})

    def test_answers_that_are_errors_are_told_and_do_not_count(self) -> None:
        said = parse(summary(status=400, read=2))
        assert said.rate == 300.0
        assert said.failures == {"status": 400, "read": 2}

    @pytest.mark.parametrize(
        "output", ["", "unable to connect to 127.0.0.1", '{"requests": 3', summary(duration=0)]
    )
    def test_anything_else_is_an_error(self, output: str) -> None:
        with pytest.raises(WrkError):
            parse(output)


class TestChoosing:
    def test_each_subject_has_its_best_setting_of_the_load(self) -> None:
        figures = [figure("a", 5), figure("a", 9, "batch"), figure("b", 7), figure("b", 99, clients=64)]
        assert [one.name for one in best_of_each(figures, 16)] == ["a (batch)", "b (plain)"]

    def test_rounds_count_before_the_choice(self) -> None:
        figures = [figure("a", 9), figure("a", 8, chosen=True)]
        assert [one.rate for one in best_of_each(figures, 16)] == [8]

    def test_what_went_wrong_does_not_count(self) -> None:
        figures = [figure("a", 9, problem="3 status errors"), figure("a", 2, "other")]
        assert [one.rate for one in best_of_each(figures, 16)] == [2]

    def test_neither_ours_nor_the_bound_is_a_peer(self) -> None:
        figures = [figure(OURS, 9), figure(BOUND, 99), figure("a", 5)]
        peer = best_peer(figures, 16)
        assert peer is not None
        assert peer.subject == "a"
        assert best_peer(figures, 1) is None

    def test_only_peers_within_reach_are_measured_again_with_settings_as_good(self) -> None:
        figures = [
            figure("a", 100),
            figure("a", 95, "b32"),
            figure("a", 50, "b8"),
            figure("b", 60),
            figure("c", 9),
        ]
        assert [one.name for one in contenders(figures, 16, 5)] == ["a (plain)", "a (b32)", "b (plain)"]
        assert len(contenders(figures, 16, 2)) == 2
        assert contenders([], 16, 2) == []

    def test_rounds_are_joined_and_told_by_their_median(self) -> None:
        joined = together([figure("a", 10), figure("a", 90), figure("a", 12), figure("b", 1)])
        assert [(one.subject, one.rate, len(one.seconds)) for one in joined] == [("a", 12, 3), ("b", 1, 1)]

    def test_one_bad_round_spoils_a_setting(self) -> None:
        (joined,) = together([figure("a", 10), figure("a", 10, problem="1 read errors"), figure("a", 10)])
        assert not joined.counts

    def test_a_ratio_needs_both(self) -> None:
        assert ratio(figure(OURS, 10), figure("a", 4)) == 2.5
        assert ratio(None, figure("a", 4)) is None


class TestBodies:
    @pytest.mark.parametrize("form", [Form.OIP_BINARY, Form.RAW])
    def test_bytes_end_with_the_tensor(self, form: Form) -> None:
        tensor = np.arange(6, dtype=np.float32).reshape(1, 6)
        sent = write(tensor, form)
        assert sent.content.endswith(tensor.tobytes())
        assert read(sent.content, sent.headers, form).tolist() == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        "answer",
        [
            {"outputs": [{"name": "y", "data": [1.5, 2]}]},
            {"y": [[1.5, 2]]},
            [[1.5, 2]],
            {"outputs": [{"data": [[1.5, 2]]}]},
        ],
    )
    def test_numbers_are_found_in_json_of_several_shapes(self, answer: object) -> None:
        assert read(json.dumps(answer).encode(), {}, Form.OIP_JSON).tolist() == [1.5, 2]

    def test_an_error_is_no_tensor(self) -> None:
        with pytest.raises(ValueError, match="no tensor"):
            read(b'{"error": "no"}', {}, Form.OIP_JSON)

    def test_json_is_a_request_of_the_protocol(self) -> None:
        sent = json.loads(write(np.array([[1, 2]], np.int64), Form.OIP_JSON).content)
        assert sent == {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]}

    def test_answers_are_the_same_up_to_rounding(self) -> None:
        wanted = np.array([1, 2], np.float32)
        assert same(wanted * np.float32(1.0002), wanted)
        assert not same(wanted * np.float32(1.1), wanted)
        assert not same(wanted[:1], wanted)


def report(*figures: Figure, model: str = "small") -> Report:
    loops = (Loop("eager", 1, 8, 40.0), Loop("eager", 2, 1, 50.0), Loop("exported", 1, 8, 30.0))
    about = {"cpu": "one"}
    return Report(model, figures, loops, Importing(0.7, 200_000_000), 5_000_000, about=about)


OWN = figure(OURS, 300, "as shipped", chosen=True)
PEER = figure("mosec", 100, "batch 8, wait 1 ms", chosen=True)


class TestTables:
    def test_columns_are_aligned_and_numbers_to_the_right(self) -> None:
        assert tables.table(("a", "n"), [("long", "1"), ("b", "10")]).splitlines() == [
            "| a    |  n |",
            "| ---- | -: |",
            "| long |  1 |",
            "| b    | 10 |",
        ]

    def test_the_fastest_is_first_and_ours_is_compared(self) -> None:
        ((heading, text),) = tables.loads(report(PEER, OWN))
        assert heading == "16 connections"
        first, second = text.splitlines()[2:]
        assert first.startswith("| **Pilothouse** | as shipped")
        assert "3.00x |" in second

    def test_problems_are_told_once(self) -> None:
        bad = figure("Ray Serve", 1, problem="ended with 1\nlong trace")
        assert tables.problems(report(bad, bad)) == [
            "Ray Serve (plain), 16 connections: ended with 1 ... long trace"
        ]

    def test_features_are_compared_with_all_on(self) -> None:
        features = (figure(OURS, 100, "all features"), figure(OURS, 110, "without access log"))
        told = tables.features(Report("small", (), (), None, 0, features))
        assert "110 (+10%)" in told

    def test_the_page_keeps_what_is_around_the_markers(self) -> None:
        begin, end = (
            "<!-- generated by `make bench-runtime`: begin -->",
            "<!-- generated by `make bench-runtime`: end -->",
        )
        assert between(f"a\n{begin}\nold\n{end}\nb", "new") == f"a\n{begin}\nnew\n{end}\nb"
        with pytest.raises(ValueError, match="markers"):
            between("a", "new")

    def test_a_page_holds_tables_goals_and_the_machine(self) -> None:
        text = "\n".join(body([report(PEER, OWN)], "benchmarks"))
        assert "3.00x" in text
        assert "PASS" in text
        assert "cpu one" in text
        assert "benchmarks/runtime-small.svg" in text

    def test_a_drawing_names_each_subject(self) -> None:
        drawn = draw(report(PEER, OWN))
        assert ">mosec<" in drawn
        assert ">Pilothouse<" in drawn

    def test_a_report_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        whole = report(PEER, OWN)
        whole.save(tmp_path / "deep" / "runtime-small.json")
        assert Report.load(tmp_path / "deep" / "runtime-small.json") == whole


class TestGoals:
    def test_three_times_the_best_peer_is_enough_for_the_small_model(self) -> None:
        told = [str(goal) for goal in goals.goals(report(PEER, OWN, figure(BOUND, 400, chosen=True)))]
        assert "PASS  small, 16 connections: 3.00x mosec (batch 8, wait 1 ms), wanted 2.5x" in told
        assert "short small, 16 connections: p99 2.00 ms against 2.00 ms, wanted less" in told
        assert "short small, 16 connections: 75% of the bound, wanted 80%" in told

    def test_peers_of_our_protocol_are_judged_each(self) -> None:
        told = [str(goal) for goal in goals.goals(report(PEER, OWN, figure("KServe", 50)))]
        assert "PASS  small, 16 connections: 6.00x KServe (plain), wanted 3x" in told

    def test_large_models_are_held_against_the_best_loop(self) -> None:
        told = [
            str(goal)
            for goal in goals.goals(
                report(figure(OURS, 48, chosen=True), figure("mosec", 30), model="resnet18")
            )
        ]
        assert "PASS  resnet18: 96% of the rows/s of the best loop, wanted 95%" in told
        assert "PASS  resnet18, 16 connections: 1.60x mosec (plain), wanted more than 1x" in told

    def test_start_and_memory_are_held_against_importing_torch(self) -> None:
        told = [
            goal for goal in goals.goals(report(OWN)) if "s after the start" in goal.told or "MB" in goal.told
        ]
        assert [goal.reached for goal in told] == [True, False]
        assert "300 MB, 95 MB more than torch and the weights" in told[1].told

    def test_nothing_measured_is_nothing_to_judge(self) -> None:
        assert goals.goals(report()) == []
        assert of([], OURS, 1) is None


class TestPlaces:
    def test_every_peer_has_pins_with_our_torch_and_its_own_version(self) -> None:
        ours = environments.pinned((ROOT / "requirements/runtime.txt").read_text(), "torch")
        for peer in PEERS:
            assert environments.planned(peer.name).version("torch") == ours, (
                f"run dev/bench/peers/lock.sh {peer.name}"
            )
            assert environments.planned(peer.name).version(peer.package)

    def test_a_pin_is_found_by_its_whole_name(self) -> None:
        assert environments.pinned("torchx==2\ntorch==1.2  # via x\n", "torch") == "1.2"
        assert environments.pinned("torch>=1\n", "torch") == ""

    def test_memory_is_read_in_bytes(self) -> None:
        assert pss("Rss:  10 kB\nPss:     2 kB\nPss_Dirty: 1 kB\n") == 2048

    def test_the_machine_is_told(self) -> None:
        assert {"cpu", "cores", "torch", "mosec"} <= set(machine.about())
