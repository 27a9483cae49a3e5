"""Bytes that nobody should send: whatever comes, the server answers or ends the connection, and forgets nothing."""

from __future__ import annotations

import json
import re
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.http_wire import Answer, Client, Wire, chunked, post

BODY: Final = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
).encode()
HEAD: Final = json.dumps(
    {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
        ],
        "parameters": {"binary_data_output": True},
    }
).encode()
VALID: Final = [
    post(BODY),
    chunked(BODY[:7], BODY[7:]),
    chunked(BODY, trailer=b"X-Sum: 1\r\n"),
    post(HEAD + bytes(12), Inference_Header_Content_Length=str(len(HEAD))),
    post(BODY, Connection="Upgrade", Upgrade="h2c"),
    post(b'{"instances": [[1, 2, 3]]}', b"/v1/models/tiny:predict"),
    b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v2/models/tiny HTTP/1.1\r\nHost: a\r\n\r\n",
]
# What parsers have stumbled over.
SCRAPS: Final = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"\x80",
        b"%",
        b"%00",
        b"%zz",
        b"HTTP/1.0",
    ),
    *(b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n"),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Content-Encoding: gzip\r\n",
    ),
    *(b"Inference-Header-Content-Length: 3\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"5;a=b\r\n"),
    *(b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"GET * HTTP/1.1\r\n\r\n", b"x" * 70_000),
]
SIZE: Final = re.compile(
    rb"content-length: [0-9]{4,}"
)  # of the page of metrics, which tells of this process too
cuts = st.lists(st.integers(min_value=1, max_value=300), max_size=8)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a few valid requests in a row, with some bytes cut out, doubled, exchanged or put in."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(VALID), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        at = draw(st.integers(min_value=0, max_value=len(data)))
        end = min(len(data), at + draw(st.integers(min_value=0, max_value=30)))
        what = draw(st.sampled_from(["cut", "double", "exchange", "insert"]))
        if what == "cut":
            del data[at:end]
        elif what == "double":
            data[at:at] = data[at:end]
        else:
            scrap = draw(st.sampled_from(SCRAPS) | st.binary(max_size=20))
            data[at : end if what == "exchange" else at] = scrap
    return bytes(data)


def deliver(wire: Wire, data: bytes, lengths: list[int]) -> Client:
    """Send bytes in pieces of these lengths, the rest as one."""
    client = wire.open()
    for length in lengths:
        client.send(data[:length])
        data = data[length:]
    client.send(data)
    return client


def check(wire: Wire, client: Client) -> list[Answer]:
    """Check what must hold whatever came, and return the answers."""
    # One more client, on the same server: it knows nothing of the other.
    good = wire.open()
    good.send(post(BODY))
    (answer,) = good.answers()
    assert (answer.status, json.loads(answer.body)["outputs"][0]["data"]) == (200, [1, 2, 3])
    good.leave()
    client.leave()
    answers = client.answers() if not wire_has_heads(client) else []
    assert all(answer.status < 500 for answer in answers), answers
    assert not any(answer.ends for answer in answers[:-1]), "answers after the last one"
    wire.check_settled()
    return answers


def wire_has_heads(client: Client) -> bool:
    """Say whether an answer to HEAD may be among the answers, which looks as if its body were missing."""
    return b"HEAD" in client.received


@given(data=st.binary(max_size=2000), lengths=cuts)
def test_garbage(data: bytes, lengths: list[int]) -> None:
    wire = Wire()
    answers = check(wire, deliver(wire, data, lengths))
    assert {answer.status for answer in answers} <= {400, 404, 405, 431}


@given(data=mutated(), lengths=cuts)
@example(data=chunked(BODY) + b"\r\n" + chunked(BODY), lengths=[])
def test_mutated_requests(data: bytes, lengths: list[int]) -> None:
    wire = Wire()
    check(wire, deliver(wire, data, lengths))


@given(requests=st.lists(st.sampled_from(VALID), min_size=1, max_size=6), lengths=cuts)
def test_how_bytes_are_cut_does_not_matter(requests: list[bytes], lengths: list[int]) -> None:
    whole, cut = Wire(), Wire()
    data = b"".join(requests)
    one, other = deliver(whole, data, []), deliver(cut, data, lengths)
    assert SIZE.sub(b"", one.transport.sent) == SIZE.sub(b"", other.transport.sent)
    check(whole, one)
    check(cut, other)
    assert whole.counted() == cut.counted()


@given(
    requests=st.lists(st.sampled_from(VALID[:6]), min_size=1, max_size=10),
    lengths=cuts,
    held=st.booleans(),
    leave=st.booleans(),
)
def test_good_requests_are_all_counted(
    requests: list[bytes], lengths: list[int], held: bool, leave: bool
) -> None:
    wire = Wire()
    if held:
        wire.model.held = []
    client = deliver(wire, b"".join(requests), lengths)
    if held and leave:
        client.leave()  # one is with the model, some may wait behind it
    wire.model.release()
    wire.loop.run()
    client.rest()
    answers = client.answers()
    client.leave()
    wire.check_settled()
    if held and leave:
        assert answers == []
        assert set(wire.counted()) <= {499}
    else:
        assert [answer.status for answer in answers] == [200] * len(requests)
        assert wire.counted() == {200: len(requests)}
