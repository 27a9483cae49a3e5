"""Which workers are started anew, when, and which are ended."""

from __future__ import annotations

from pilothouse_runtime.workers.patience import Patience, Pulse


def test_one_that_had_answered_is_replaced_at_once_and_for_ever() -> None:
    patience = Patience()
    assert {patience.died(fruitful=True, now=second / 10) for second in range(100)} == {0}


def test_those_that_answer_nothing_come_back_ever_later_and_then_not_at_all() -> None:
    patience = Patience()
    assert [patience.died(fruitful=False, now=float(second)) for second in range(5)] == [
        0, 0.1, 0.2, 0.4, None,
    ]  # fmt: skip


def test_deaths_that_are_long_ago_do_not_count() -> None:
    patience = Patience()
    waits = [patience.died(fruitful=False, now=16.0 * number) for number in range(50)]
    assert None not in waits
    assert max(wait for wait in waits if wait is not None) <= 0.4


def test_one_that_beats_lives() -> None:
    pulse = Pulse()
    assert not any(pulse.stopped(1, beats) for beats in range(100))


def test_one_that_does_not_beat_is_ended_after_some_looks() -> None:
    pulse = Pulse()
    pulse.stopped(1, 7)
    assert [pulse.stopped(1, 7) for _ in range(6)] == [False] * 5 + [True]


def test_a_beat_now_and_then_is_enough_and_others_beats_are_not() -> None:
    pulse = Pulse()
    stopped = [(pulse.stopped(1, look // 5), pulse.stopped(2, 0)) for look in range(20)]
    assert not any(first for first, _ in stopped)
    assert stopped[-1][1]
