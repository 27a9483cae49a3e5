"""Clients that do not behave, and many at once, against a real process: the others get their answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from pilothouse_runtime import contract
from tests.support.http_wire import chunked, post
from tests.support.runtime_process import RuntimeProcess, eventually, runtime
from tests.support.sockets import Raw, metric, row, row_of, rss
from tests.support.tiny_models import Affine, save_torchscript

LIMIT = 8_000_000
MANY = 1000
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("connections")
    model = save_torchscript(Affine(), folder / "affine.pt")
    settings = {"MAX_REQUEST_BYTES": str(LIMIT), "MAX_CONNECTION_AGE_SECONDS": "0"}
    with runtime(folder, f"file://{model}", **settings) as process:
        process.wait_ready()
        yield process


@pytest.fixture(autouse=True)
def well(process: RuntimeProcess) -> Iterator[None]:
    """Check after each test that the server is as it was: nothing in flight, nothing kept, right answers."""
    yield
    eventually(lambda: metric(process, contract.METRIC_IN_FLIGHT) == 0, "idle")
    eventually(lambda: metric(process, contract.METRIC_BODY_BYTES) == 0, "free of bodies")
    check_good(process)
    assert metric(process, contract.METRIC_REQUESTS, 'code="500"') == 0
    assert [line for line in process.lines if line.get("level") in ("error", "critical")] == []


def check_good(process: RuntimeProcess) -> None:
    """Check that a client that behaves gets the right answer: y = x A + b."""
    with Raw(process.port) as good:
        good.send(post(row(1, 2, 3)))
        assert row_of(good.answer()) == [14.5, 1.5]


def left(process: RuntimeProcess) -> float:
    return metric(process, contract.METRIC_REQUESTS, 'code="499"')


@pytest.mark.parametrize("how", ["announced", "chunked"])
def test_a_body_that_is_too_large(process: RuntimeProcess, how: str) -> None:
    with Raw(process.port) as raw:
        if how == "announced":
            raw.send(post(b"").replace(b"Length: 0", b"Length: %d" % (100 * LIMIT)))
        else:
            head, _, _ = chunked(b"").partition(b"0\r\n")
            raw.send(head + b"%x\r\n" % (100 * LIMIT))
        before = rss(process)
        try:
            for _ in range(100 * LIMIT // MEGABYTE):
                raw.send(bytes(MEGABYTE))
        except ConnectionError:
            pass  # it need not read all of it, but the answer has come
        check_good(process)
        assert rss(process) < before + 5 * LIMIT
        answer = raw.answer()
        assert (answer.status, answer.ends) == (413, True)
        assert raw.ended()


def test_expectations(process: RuntimeProcess) -> None:
    head, _, body = post(row(1, 2, 3), Expect="100-continue").partition(b"\r\n\r\n")
    with Raw(process.port) as raw:
        raw.send(head + b"\r\n\r\n")
        assert raw.answer().status == 100
        raw.send(body)
        assert row_of(raw.answer()) == [14.5, 1.5]
    with Raw(process.port) as raw:
        raw.send(
            post(b"", b"/v2/models/nobody/infer", Expect="100-continue").replace(b"Length: 0", b"Length: 9")
        )
        assert raw.answer().status == 404  # its body is never asked for


def test_one_connection_after_another_way_of_asking(process: RuntimeProcess) -> None:
    with Raw(process.port) as raw:
        raw.send(b"HEAD /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        head = raw.answer(head_only=True)
        raw.send(LIVE)
        whole = raw.answer()
        assert int(head.headers[b"content-length"]) == len(whole.body)
        raw.send(b"GET /v2/health/l%69ve?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.answer().body == whole.body
        raw.send(
            post(row(1, 2, 3), Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMA")
        )
        assert row_of(raw.answer()) == [14.5, 1.5]
        raw.send(post(b'{"instances": [[1, 2, 3]]}', b"/v1/models/tiny:predict"))
        assert json.loads(raw.answer().body) == {"predictions": [[14.5, 1.5]]}
        raw.send(post(row(1, 2, 3), Connection="close"))
        answer = raw.answer()
        assert answer.ends
        assert raw.ended()
    with Raw(process.port) as raw:
        raw.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert raw.answer().status == 200
        assert raw.ended()


def test_pipelined(process: RuntimeProcess) -> None:
    with Raw(process.port) as raw:
        raw.send(b"".join(post(row(number, 0, 0)) + LIVE for number in range(200)))
        for number in range(200):
            assert row_of(raw.answer()) == [number + 0.5, -number - 0.5]
            assert raw.answer().body == b'{"live":true}'


@pytest.mark.parametrize(
    "data", [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00", chunked(b"x").replace(b"x", b"xyz")]
)
def test_no_http(process: RuntimeProcess, data: bytes) -> None:
    with Raw(process.port) as raw:
        raw.send(data)
        answer = raw.answer()
        assert (answer.status, answer.ends) == (400, True)
        assert raw.ended()


def test_clients_that_leave_in_the_middle(process: RuntimeProcess) -> None:
    before = left(process)
    whole = post(row(1, 2, 3))
    for number in range(100):
        raw = Raw(process.port)
        raw.send(whole[:-5])  # the head has come, or comes
        raw.reset() if number % 2 else raw.close()
    eventually(lambda: left(process) >= before + 50, "counted")  # a reset may overtake the head


def test_a_client_that_sends_no_more_has_left(process: RuntimeProcess) -> None:
    with Raw(process.port) as raw:
        raw.send(post(row(1, 2, 3))[:-5])
        eventually(lambda: metric(process, contract.METRIC_IN_FLIGHT) == 1, "begun")
        before = left(process)
        raw.socket.shutdown(1)
        assert raw.ended()
    eventually(lambda: left(process) == before + 1, "counted")


def test_clients_that_do_not_read(process: RuntimeProcess) -> None:
    """Each asks for 1,000 times 20 kB, and reads nothing: what is not read is not made."""
    before = rss(process)
    rows = 1000
    body = json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": [0.123456] * 3 * rows}]}
    ).encode()
    stubborn = [Raw(process.port, receive_buffer=4096) for _ in range(20)]
    for raw in stubborn:
        raw.socket.setblocking(False)
    for _ in range(1000):
        for raw in stubborn:
            try:
                raw.socket.send(post(body))
            except BlockingIOError:
                continue
    check_good(process)
    assert rss(process) < before + 100 * MEGABYTE
    for raw in stubborn:
        raw.reset()


def test_a_thousand_at_once_get_each_its_own_answer(process: RuntimeProcess) -> None:
    clients = [Raw(process.port) for _ in range(MANY)]
    # In two halves, so that all are open and in the middle of a request at the same time.
    requests = [post(row(number, 0, 0)) for number in range(MANY)]
    for client, request in zip(clients, requests, strict=True):
        client.send(request[:60])
    for client, request in zip(clients, requests, strict=True):
        client.send(request[60:])
    for number, client in enumerate(clients):
        answer = client.answer()
        while answer.status == 429:  # the queue may be full for a moment: all came at once
            client.send(requests[number])
            answer = client.answer()
        assert row_of(answer) == [number + 0.5, -number - 0.5]
    for client in clients:
        client.close()


def test_a_thousand_that_send_half_a_request(process: RuntimeProcess) -> None:
    before = rss(process)
    # 60 kB each are there, of 64 kB announced; their bodies are taken as they come.
    half = post(b"").replace(b"Length: 0", b"Length: 64000") + bytes(60_000)
    clients = [Raw(process.port) for _ in range(MANY)]
    for client in clients:
        client.send(half)
    eventually(lambda: metric(process, contract.METRIC_IN_FLIGHT) == MANY, "all there")
    check_good(process)
    assert rss(process) < before + MANY * 64_000 * 2 + 50 * MEGABYTE
    for client in clients:
        client.close()


def test_a_thousand_that_announce_much_and_send_nothing(process: RuntimeProcess) -> None:
    before = rss(process)
    clients = [Raw(process.port) for _ in range(MANY)]
    for client in clients:
        client.send(post(b"").replace(b"Length: 0", b"Length: %d" % LIMIT))
    eventually(lambda: metric(process, contract.METRIC_IN_FLIGHT) > 0, "some there")
    check_good(process)
    assert rss(process) < before + 200 * MEGABYTE
    for client in clients:
        client.close()


def test_a_slow_sender_keeps_nobody_waiting(process: RuntimeProcess) -> None:
    request = post(row(1, 2, 3))
    with Raw(process.port) as slow:
        for byte in request[:-1]:
            slow.send(bytes([byte]))
            if byte == ord("\n"):
                check_good(process)
        check_good(process)
        slow.send(request[-1:])
        assert row_of(slow.answer()) == [14.5, 1.5]


def test_threads_of_clients_get_their_own_rows(process: RuntimeProcess) -> None:
    """Rows of requests that run together are put together and taken apart: nobody gets another's."""
    wrong: list[object] = []

    def ask(first: int) -> None:
        with Raw(process.port) as raw:
            for number in range(first, first + 100):
                raw.send(post(row(number, 0, 0)))
                got = row_of(raw.answer())
                if got != [number + 0.5, -number - 0.5]:
                    wrong.append((number, got))

    threads = [threading.Thread(target=ask, args=(1000 * index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
