"""What a connection makes of bytes, without a network."""

from __future__ import annotations

import gzip
import json

import pytest

from pilothouse_runtime.serve.http.connection import MAX_HEAD
from tests.support.http_wire import INFER, MAX_BODY, Wire, chunked, post

BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def statuses(data: bytes, wire: Wire | None = None) -> list[int]:
    """Return the statuses of the answers to these bytes; then the client leaves, and nothing is left of it."""
    wire = wire or Wire()
    client = wire.open()
    client.send(data)
    client.leave()
    wire.check_settled()
    return [answer.status for answer in client.answers()]


def test_a_request_split_at_every_place() -> None:
    for data in (post(BODY), chunked(BODY[:5], BODY[5:])):
        for at in range(len(data)):
            wire = Wire()
            client = wire.open()
            client.send(data[:at])
            client.send(data[at:])
            (answer,) = client.answers()
            assert (answer.status, json.loads(answer.body)["outputs"][0]["data"]) == (200, [1, 2, 3]), at
            client.leave()
            wire.check_settled()


def test_one_byte_at_a_time() -> None:
    wire = Wire()
    client = wire.open()
    for byte in post(BODY) + chunked(BODY) + LIVE:
        client.send(bytes([byte]))
    assert [answer.status for answer in client.answers()] == [200, 200, 200]


def test_pipelined_requests_are_answered_in_order() -> None:
    wire = Wire()
    client = wire.open()
    bodies = [BODY.replace(b"[1, 2, 3]", b"[%d, 2, 3]" % number) for number in range(20)]
    client.send(b"".join(post(body) + LIVE for body in bodies))
    told = [json.loads(answer.body) for answer in client.answers()]
    assert [answer["outputs"][0]["data"][0] for answer in told[::2]] == list(range(20))
    assert told[1::2] == [{"live": True}] * 20
    assert wire.counted() == {200: 20}


@pytest.mark.parametrize("rest", [b"garbage\r\n\r\n", post(b"x" * (MAX_BODY + 1))])
def test_what_was_asked_before_something_bad_is_answered(rest: bytes) -> None:
    wire = Wire()
    wire.model.held = []
    client = wire.open()
    client.send(post(BODY) + post(BODY) + rest)
    wire.model.release()
    wire.loop.run()
    wire.model.release()
    wire.loop.run()
    assert [answer.status for answer in client.answers()][:2] == [200, 200]
    client.leave()
    wire.check_settled()


def test_requests_that_wait_behind_another_are_answered_while_the_server_drains() -> None:
    wire = Wire()
    wire.model.held = []
    client = wire.open()
    client.send(post(BODY) * 3)
    wire.server.drain()
    wire.model.release()
    wire.loop.run()
    assert [(answer.status, answer.ends) for answer in client.answers()] == [
        (200, False),
        (200, False),
        (200, True),
    ]
    assert client.transport.closing
    wire.check_settled()


@pytest.mark.parametrize("connection", ["Upgrade, HTTP2-Settings", "close, Upgrade"])
def test_an_offer_of_another_protocol_is_not_taken(connection: str) -> None:
    offer = {"Connection": connection, "Upgrade": "h2c", "HTTP2_Settings": "AAMAAABkAAQAAP__"}
    data = post(BODY, **offer)
    for at in range(len(data)):
        wire = Wire()
        client = wire.open()
        client.send(data[:at])
        client.send(data[at:])
        (answer,) = client.answers()
        assert (answer.status, json.loads(answer.body)["outputs"][0]["data"]) == (200, [1, 2, 3])
        assert answer.ends == connection.startswith("close")
        if not answer.ends:
            client.send(LIVE)
            assert [answer.status for answer in client.answers()] == [200, 200]
        client.leave()
        wire.check_settled()
        assert wire.counted() == {200: 1}


def test_one_last_answer_is_enough() -> None:
    """What comes behind a request that was refused by its head is not even looked at."""
    refused = post(b"").replace(b"Length: 0", b"Length: %d" % (MAX_BODY + 1))
    for data in (refused + b"\0", chunked(b"x" * (MAX_BODY + 1)) + b"\0 garbage\r\n\r\n"):
        assert statuses(data) == [413]
    wrong = chunked(BODY, BODY).replace(INFER, b"/nowhere")
    assert statuses(wrong + b"\0 garbage\r\n\r\n") == [404]


def test_tunnels_are_not_made() -> None:
    wire = Wire()
    client = wire.open()
    client.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n" + LIVE)
    (answer,) = client.answers()
    assert (answer.status, answer.ends) == (404, True)


def test_old_clients_get_one_answer_a_connection() -> None:
    for extra in (b"", b"Connection: keep-alive\r\n"):
        wire = Wire()
        client = wire.open()
        client.send(b"GET /v2/health/live HTTP/1.0\r\n%b\r\n" % extra)
        (answer,) = client.answers()
        assert (answer.status, answer.ends, client.transport.closing) == (200, True, True)


def test_targets_as_proxies_write_them() -> None:
    assert statuses(b"GET http://host:80/v2/health/live?x=1 HTTP/1.1\r\nHost: a\r\n\r\n") == [200]
    assert statuses(b"GET /v2/h%65alth/live HTTP/1.1\r\nHost: a\r\n\r\n") == [200]
    assert statuses(b"GET http://host HTTP/1.1\r\nHost: a\r\n\r\n") == [404]


def test_100_continue() -> None:
    wire = Wire()
    client = wire.open()
    head, _, body = post(BODY, Expect="100-continue").partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert bytes(client.transport.sent) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(body)
    assert [answer.status for answer in client.answers()] == [200]
    refused = post(b"", Expect="100-continue").replace(b"Length: 0", b"Length: %d" % (MAX_BODY + 1))
    assert statuses(refused) == [413]  # before its body was sent


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (post(BODY).replace(b"Length: ", b"Length: -"), 400),
        (post(BODY).replace(b"Host: a", b"Content-Length: 1"), 400),
        (post(BODY).replace(b"Host: a", b"Transfer-Encoding: chunked"), 400),
        (chunked(BODY).replace(b"chunked", b"gzip"), 400),
        (chunked(BODY).replace(b"\r\n\r\n5", b"\r\n\r\n5z"), 400),
        (post(BODY).replace(b"Content-Length: ", b"Content-Length: 99999999999999999999"), 400),
        (post(BODY, Inference_Header_Content_Length="9" * 5000), 400),
        (post(BODY, Inference_Header_Content_Length="-1"), 400),
        (post(BODY, X_Envoy_Expected_Rq_Timeout_Ms="9" * 5000), 400),
        (post(BODY, Content_Encoding="gzip"), 400),
    ],
)
def test_what_is_wrong_is_told(data: bytes, status: int) -> None:
    assert statuses(data) == [status]


@pytest.mark.parametrize("what", ["line", "header", "trailer", "extension"])
def test_what_is_no_body_is_bounded(what: str) -> None:
    long = b"a" * 1000
    begin, piece, count = {
        "line": (b"GET /", long, 1000),
        "header": (b"POST %b HTTP/1.1\r\n" % INFER, b"x-%b: %b\r\n" % (long, long), 500),
        "trailer": (chunked(BODY)[:-2], b"x-%b: %b\r\n" % (long, long), 500),
        "extension": (chunked(BODY)[:-5] + b"1;", long, 1000),
    }[what]
    wire = Wire()
    client = wire.open()
    client.send(begin)
    sent = 0
    for _ in range(count):
        client.send(piece)
        sent += len(piece)
        if client.answers():
            break
    assert [answer.status for answer in client.answers()] == [431]
    assert sent <= MAX_HEAD + len(piece)
    client.leave()
    wire.check_settled()


def test_a_long_text_among_many_values_takes_no_memory() -> None:
    """Numpy would make room for the longest text in each element: here 6 GB."""
    data = json.dumps([["a" * 80_000], *([""] for _ in range(20_000))]).encode()
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [20001, 1], "data": %b}]}' % data
    wire = Wire()
    client = wire.open()
    client.send(post(body))
    (answer,) = client.answers()
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == "inputs[0].data: FP32 takes numbers only"


def test_what_becomes_of_compressed_bodies_counts_as_memory_too() -> None:
    """A few bytes on the wire that are many in memory: as many as all bodies may be, and not one more."""
    wire = Wire()
    wire.model.held = []  # nothing is answered yet
    padded = BODY + b" " * (MAX_BODY - len(BODY))
    request = post(gzip.compress(padded), Content_Encoding="gzip")
    clients = [wire.open() for _ in range(6)]
    for client in clients:
        client.send(request)
    assert wire.server.body_bytes == 4 * MAX_BODY
    refused = [answer.status for client in clients for answer in client.answers()]
    assert refused == [429, 429]
    wire.model.release()
    wire.loop.run()
    assert sorted(answer.status for client in clients for answer in client.answers()) == [200] * 4 + [429] * 2
    wire.check_settled()
