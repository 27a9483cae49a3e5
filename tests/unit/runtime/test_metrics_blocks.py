"""What several processes count in one page: sums that never go back."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilothouse_runtime import contract
from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.metrics import BUCKETS, Block, Cells, Histogram, Metrics, SharedMetrics

STATUS = "200"


class Shared:
    """Memory that is handed out from the start again for each block of the same place."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(8 * 1000)).cast("d")

    def block(self) -> Block:
        taken = 0

        def allot(count: int) -> Cells:
            nonlocal taken
            taken += count
            return self._view[taken - count : taken]

        return Block(allot)


def call(code: int = 200) -> Call:
    ended = Call("rest", 1.0)
    ended.code = code
    return ended


def ran() -> Call:
    """A call that went through the model: 1 ms received, 2 ms queued, 4 ms run."""
    ended = call()
    ended.decoded = 1.001
    ended.job = job = Job([], lambda result: None)
    job.arrived, job.started, job.ended = 1.001, 1.003, 1.007
    return ended


def page(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return the values by name and what tells them apart: code, bound or stage."""
    body, _ = metrics.render("")
    return {
        (sample.name, "/".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_each_process_shows_the_sums_of_all() -> None:
    mine, other = Shared().block(), Shared().block()
    first = Metrics(Readiness(), mine, [other])
    second = Metrics(Readiness(), other, [mine])
    first.ended(ran(), 1.01)
    second.ended(ran(), 1.02)
    second.ended(call(429), 1.001)
    second.ran(4, 0.1)
    for metrics in (first, second):
        values = page(metrics)
        assert values[contract.METRIC_REQUESTS, STATUS] == 2
        assert values[contract.METRIC_REQUESTS, "429"] == 1
        assert values[f"{contract.METRIC_REQUEST_SECONDS}_count", ""] == 3
        assert values[f"{contract.METRIC_REQUEST_SECONDS}_bucket", "0.015"] == 2
        assert values[f"{contract.METRIC_REQUEST_SECONDS}_sum", ""] == pytest.approx(0.031)
        assert values[f"{contract.METRIC_STAGE_SECONDS}_count", "queue"] == 2
        assert values[f"{contract.METRIC_STAGE_SECONDS}_sum", "model"] == pytest.approx(0.008)
        assert values[f"{contract.METRIC_BATCH_ROWS}_bucket", "4.0"] == 1


def test_who_takes_a_dead_ones_place_counts_on() -> None:
    shared = Shared()
    Metrics(Readiness(), shared.block()).ended(ran(), 1.01)
    successor = Metrics(Readiness(), shared.block())
    successor.ended(ran(), 1.01)
    assert page(successor)[contract.METRIC_REQUESTS, STATUS] == 2
    assert shared.block().requests == 2


def test_gauges_are_summed_as_each_last_told_them() -> None:
    mine, other = Shared().block(), Shared().block()
    first, second = SharedMetrics(Readiness(), mine, [other]), SharedMetrics(Readiness(), other, [mine])
    first.watch(contract.METRIC_WAITING, "Waiting.", lambda: 3)
    second.watch(contract.METRIC_WAITING, "Waiting.", lambda: 5)
    first.in_flight, second.in_flight = 4, 6
    assert page(first)[contract.METRIC_IN_FLIGHT, ""] == 10
    second.in_flight += 1
    assert page(first)[contract.METRIC_IN_FLIGHT, ""] == 11
    assert page(first)[contract.METRIC_WAITING, ""] == 3  # the other has told nothing yet
    second.publish()
    assert page(first)[contract.METRIC_WAITING, ""] == 8
    other.forget_gauges()
    assert page(first)[contract.METRIC_IN_FLIGHT, ""] == 4


def test_gauges_that_all_share_are_not_summed() -> None:
    mine, other = Shared().block(), Shared().block()
    metrics = Metrics(Readiness(), mine, [other])
    metrics.watch(contract.METRIC_MEMORY_LIMIT, "Limit.", lambda: 7)
    assert page(metrics)[contract.METRIC_MEMORY_LIMIT, ""] == 7


@pytest.mark.parametrize("value", [0.0, BUCKETS[0], BUCKETS[3], BUCKETS[-1], 1e9])
def test_a_value_is_in_the_first_bucket_that_is_not_below_it(value: float) -> None:
    histogram = Histogram(BUCKETS, lambda count: [0] * count)
    histogram.observe(value)
    counts, total = Histogram.read([histogram])
    assert total == value
    assert {bound for bound, count in counts if count} == {
        bound for bound, _ in counts if float(bound) >= value
    }
