"""Pages of metrics: what the runtime really writes is understood, and nothing else does any harm."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.metrics.exposition import Counts, UnreadablePageError, read
from pilothouse_runtime import contract
from tests.unit.metrics.servers import Server

TYPE = f"# TYPE {contract.METRIC_REQUESTS} counter\n"


def test_a_runtime_that_answered_nothing_yet_counts_nothing() -> None:
    reading = read(Server().page)
    assert (reading.counts.requests, reading.counts.errors) == (0, 0)
    assert set(reading.counts.buckets.values()) == {0}
    assert inf in reading.counts.buckets
    assert reading.started is not None
    assert reading.revisions == frozenset()


def test_what_is_an_error_and_what_is_no_request() -> None:
    server = Server()
    for code, count in ((200, 7), (400, 5), (429, 3), (499, 11), (500, 1), (503, 2)):
        server.answers(count, code)
    counts = read(server.page).counts
    assert counts.requests == 7 + 5 + 3 + 1 + 2, "a client that left got no answer, good or bad"
    assert counts.errors == 3 + 1 + 2, "a full queue is an error: the revision could not take the load"


def test_times_are_read_as_the_runtime_buckets_them() -> None:
    server = Server()
    server.answers(3, seconds=0.004)
    server.answers(2, seconds=0.3)
    server.answers(1, seconds=99)
    buckets = read(server.page).counts.buckets
    for at_most, count in ((0.001, 0), (0.1, 3), (1.0, 5), (30.0, 5), (inf, 6)):
        assert buckets[at_most] == count


def test_a_new_process_is_told_from_a_busy_one() -> None:
    server = Server()
    server.answers(5)
    before = read(server.page)
    server.answers(1)
    assert not read(server.page).is_of_another_process_than(before)
    server.restart()
    assert read(server.page).is_of_another_process_than(before)
    # It may have caught up meanwhile; then its start tells.
    page = TYPE + f'{contract.METRIC_REQUESTS}{{code="200"}} 9\nprocess_start_time_seconds %s\n'
    first, second = (read((page % seconds).encode()) for seconds in ("1.7e9", "1.700000009e9"))
    assert second.is_of_another_process_than(first)


def test_counts_are_added_where_both_know_the_bounds() -> None:
    one = Counts(3, 1, {0.1: 1, 0.5: 2, inf: 3})
    other = Counts(5, 0, {0.5: 4, 1.0: 4, inf: 5})
    assert one + other == Counts(8, 1, {0.5: 6, inf: 8})
    assert Counts() + one == one + Counts() == one


def page(*lines: str) -> bytes:
    return (TYPE + "\n".join(lines) + "\n").encode()


REQUESTS, BUCKET = contract.METRIC_REQUESTS, f"{contract.METRIC_REQUEST_SECONDS}_bucket"


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (b"", "no pilothouse_requests_total"),
        (b"<html>hello</html>", "no pilothouse_requests_total"),
        (b"# TYPE http_requests_total counter\nhttp_requests_total 5\n", "no pilothouse_requests_total"),
        (b"\xff\xfe\x00", "not text"),
        (page(f'{REQUESTS}{{code="200"}} NaN'), "no count"),
        (page(f'{REQUESTS}{{code="200"}} +Inf'), "no count"),
        (page(f'{REQUESTS}{{code="200"}} -1'), "no count"),
        (page(f'{REQUESTS}{{code="200"}} 1e300'), "no count"),
        (page(f'{REQUESTS}{{code="200"}} many'), "text format"),
        (page(f'{REQUESTS}{{code="200" 5'), "text format"),
        (page(f'{REQUESTS}{{code="ok"}} 5'), "no HTTP status"),
        (page(f'{REQUESTS}{{code="٢٠٠"}} 5'), "no HTTP status"),
        (page(f"{REQUESTS} 5"), "no HTTP status"),
        (page(f'{BUCKET}{{le="1"}} 5'), "no histogram"),
        (page(f'{BUCKET}{{le="1"}} 5', f'{BUCKET}{{le="+Inf"}} 4'), "no histogram"),
        (page(f'{BUCKET}{{le="NaN"}} 5'), "no bound"),
        (page(f'{BUCKET}{{le="short"}} 5'), "no bound"),
        (page(*(f'{REQUESTS}{{code="200",n="{n}"}} 1' for n in range(2001))), "more than 2000 lines"),
    ],
)
def test_other_pages_are_refused_with_a_reason(hostile: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePageError, match=reason):
        read(hostile)


def test_metrics_of_others_are_not_even_parsed() -> None:
    more = b'broken{{{ 5\npilothouse_requests_in_flight{code="} x\n' * 1000
    server = Server()
    server.answers(4)
    assert read(more + server.page).counts.requests == 4


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from([REQUESTS, BUCKET, contract.METRIC_MODEL_INFO, "process_start_time_seconds"]),
                st.text(max_size=40),
            ).map("".join),
            st.sampled_from(
                [TYPE, f'{REQUESTS}{{code="200"}} 5', f'{BUCKET}{{le="+Inf"}} 5', "# HELP", "# TYPE"]
            ),
        ),
        max_size=6,
    )
)
def test_no_page_does_more_than_be_refused(lines: list[str]) -> None:
    try:
        counts = read("\n".join([TYPE, *lines]).encode("utf-8", "surrogatepass")).counts
    except UnreadablePageError:
        return
    assert 0 <= counts.errors <= counts.requests
