"""A head that is known is taken for what the parser made of it: no request is understood in another way by that."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pilothouse_runtime.core.errors import Code, RequestError
from pilothouse_runtime.serve.http.connection import Connection
from pilothouse_runtime.serve.http.exchange import Exchange
from pilothouse_runtime.serve.http.server import Handler, HttpLimits, HttpServer

MAX_BODY = 200


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1)

    def write(self, data: bytes) -> None:
        self.sent += data

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Client:
    """One server without a network, and connections to it; `seen` are the requests as handlers got them."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.seen: list[tuple[str, str, dict[bytes, bytes], bytes]] = []
        self.server = HttpServer(self._admit, HttpLimits(MAX_BODY, 1 << 20, 0))
        self.server.date = b"Thu, 01 Jan 1970 00:00:00 GMT"  # two servers are not of the same second

    def _admit(self, exchange: Exchange) -> Handler:
        if exchange.path.startswith("/no"):
            raise RequestError(Code.NOT_FOUND, "nothing here")
        return self._handle

    def _handle(self, exchange: Exchange) -> None:
        self.seen.append((exchange.method, exchange.path, dict(exchange.headers), bytes(exchange.body)))
        exchange.answer_json({"length": len(exchange.body)})

    def send(self, *pieces: bytes) -> tuple[bytes, bool]:
        """Send bytes over a new connection; return what comes back, and whether that was closed."""
        connection, transport = Connection(self.server, self.loop), Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
        for piece in pieces:
            if transport.closed:
                break
            connection.get_buffer(-1)[: len(piece)] = piece
            connection.buffer_updated(len(piece))
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        return bytes(transport.sent), transport.closed


names = st.sampled_from([b"Accept", b"X-Request-Id", b"Connection", b"Expect", b"Host", b"Content-Type"])
values = st.sampled_from([b"a", b"close", b"keep-alive", b"100-continue", b"", b"x y", b"\xe9"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return one request; some of them wrong in their framing."""
    method = draw(st.sampled_from([b"POST", b"GET", b"PUT", b"HEAD"]))
    path = draw(st.sampled_from([b"/a", b"/a%20b", b"/a?q=1", b"/no", b"/no/%2F"]))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    body = draw(st.binary(max_size=MAX_BODY + 20))
    lines = [b"%b %b HTTP/%b" % (method, path, version)]
    lines += [b"%b: %b" % pair for pair in draw(st.lists(st.tuples(names, values), max_size=3))]
    framing = draw(st.sampled_from(["length", "length", "length", "short", "long", "chunked", "none"]))
    if framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif framing != "none":
        off = {"length": 0, "short": -1, "long": 1}[framing]
        lines.append(b"Content-Length: %d" % max(0, len(body) + off))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if framing == "none" else body)


@given(request=requests(), cut=st.integers(0, 300), again=st.integers(1, 3))
def test_the_second_time_is_as_the_first(request: bytes, cut: int, again: int) -> None:
    """Whole or in pieces, alone or with more behind it: the same answers as from a server that knows nothing."""
    cut = min(cut, len(request))
    ways = [(request,), tuple(p for p in (request[:cut], request[cut:]) if p), (request * again,)]
    for way in ways:
        fresh, knows = Client(), Client()
        knows.send(request)  # learns, if there is something to learn
        knows.seen.clear()
        assert knows.send(*way) == fresh.send(*way)
        assert knows.seen == fresh.seen
        fresh.loop.close()
        knows.loop.close()


def test_a_plain_request_is_learnt_and_the_memory_of_it_is_bounded() -> None:
    client = Client()
    for number in range(2000):
        client.send(b"POST /a HTTP/1.1\r\nX-Request-Id: %d\r\nContent-Length: 2\r\n\r\nhi" % number)
    known = client.server.heads
    assert known.match(b"POST /a HTTP/1.1\r\nX-Request-Id: 7\r\nContent-Length: 2\r\n\r\nho") is not None
    assert known.match(b"POST /a HTTP/1.1\r\nX-Request-Id: 1999\r\nContent-Length: 2\r\n\r\nho") is None
    known.forget_if_full()
    assert known.match(b"POST /a HTTP/1.1\r\nX-Request-Id: 7\r\nContent-Length: 2\r\n\r\nho") is None
    assert len(client.seen) == 2000
    client.loop.close()
