"""Which connections are old."""

from __future__ import annotations

from pilothouse_runtime.serve.closing import Ages, Peer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_connection_is_old_once_and_then_a_new_one() -> None:
    clock, peer = Clock(), ("10.0.0.1", 40000)
    ages = Ages(20, clock)
    assert not ages.old(peer)
    clock.now += 17.9
    assert not ages.old(peer)
    clock.now += 4.2
    assert ages.old(peer)
    assert not ages.old(peer), "whoever comes from this port now has just come"


def test_connections_opened_together_do_not_end_together() -> None:
    clock = Clock()
    ages = Ages(20, clock)
    peers: list[Peer] = [("10.0.0.1", port) for port in range(200)]
    assert sum(ages.old(peer) for peer in peers) == 0
    clock.now += 20
    assert 40 < sum(ages.old(peer) for peer in peers) < 160


def test_no_limit_is_no_limit() -> None:
    clock, peer = Clock(), ("10.0.0.1", 40000)
    ages = Ages(0, clock)
    assert not ages.old(peer)
    clock.now += 1e9
    assert not ages.old(peer)


def test_clients_that_left_are_forgotten() -> None:
    clock = Clock()
    ages = Ages(20, clock)
    for port in range(50_000):
        clock.now += 0.1  # 220 connections are young at a time
        ages.old(("10.0.0.1", port))
    assert len(ages._ends) <= 1024
