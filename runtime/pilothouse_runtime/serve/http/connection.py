"""One connection: bytes in, exchanges out, one at a time, in order.

Framing is httptools' (the parser of Node.js), the rest is here: limits, time-outs, keep-alive, and the way in which a
connection ends so that its client gets the last answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

import httptools

from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.serve.http.exchange import Body, Exchange
from pilothouse_runtime.serve.http.heads import Head, Heads
from pilothouse_runtime.serve.http.receiving import Receiver
from pilothouse_runtime.serve.http.upgrade import without_offer

# Bytes of a request line and its headers, and of what comes between and after the pieces of a chunked body; one more
# read may go beyond.
MAX_HEAD: Final = 65536
DIRECT: Final = 65536  # bytes of a body from which on it is worth receiving without the parser
_LINGER: Final = 2.0  # seconds for which a client that still sends is listened to after the last answer
_SCRATCH: Final = memoryview(
    bytearray(256 * 1024)
)  # what is read is taken out of it before anything else is read

_IPV4_AS_IPV6: Final = "::ffff:"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Host(Protocol):
    """What a connection needs of its server."""

    max_body: int
    now: float  # loop seconds, give or take one
    date: bytes  # the time, as HTTP writes it
    ending: bool  # connections end with their next answer
    heads: Heads

    def admit(self, exchange: Exchange) -> Callable[[Exchange], None]:
        """Return what handles a request whose head has come. Raises RequestError where nothing does."""

    def charge(self, size: int) -> None:
        """Count bytes of a body that will be in memory. Raises RequestError where they are too many."""

    def release(self, size: int) -> None:
        """Take them off again."""

    def opened(self, connection: Connection) -> None:
        """Take note of a connection."""

    def closed(self, connection: Connection) -> None:
        """Forget it."""


class Connection(asyncio.BufferedProtocol):
    """See the module.

    Attributes:
        began: loop seconds when it was opened.
        request_began: loop seconds when the last request began to come.
        last_read, last_write: loop seconds when something was last received, or could be sent.
        old: it ends with its next answer.
    """

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # until it is made
        self._parser: Any = httptools.HttpRequestParser(self)
        self._peer = ""
        self._begun = False  # a request has begun to come, and is not whole
        self._messages = 0  # that became whole by what was read last
        self._overhead = 0  # bytes that came since the last piece of a body, or since the last request
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._exchange: Exchange | None = None  # the one that is being received
        self._handler: Callable[[Exchange], None] | None = None
        self._small = b""  # a body that came in one piece
        self._receiver: Receiver | None = None
        self._direct = False  # bytes go to the receiver, past the parser
        self._current: Exchange | None = None  # the one that is to be answered next
        self._ready: deque[tuple[Exchange, Callable[[Exchange], None]]] = deque()  # pipelined behind it
        self._last = False  # no request is read after the one that is being answered
        self._lingering = False  # what comes is thrown away
        self.began = self.request_began = self.last_read = self.last_write = host.now
        self.blocked = False  # the client does not read what it asked for
        self.old = False

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # a stream's; uvloop's is not of that class
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self._peer = f"{name[0].removeprefix(_IPV4_AS_IPV6)}:{name[1]}"
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: whatever was asked and not answered is dropped."""
        self._host.closed(self)
        self._parser = None
        gone = [self._exchange, self._current, *(exchange for exchange, _ in self._ready)]
        self._exchange = self._current = None
        self._ready.clear()
        for exchange in gone:
            if exchange is not None:
                self._release(exchange)
                if exchange.on_gone and not exchange.answered:
                    exchange.answered = True
                    exchange.on_gone()

    def eof_received(self) -> bool:
        """Take the client's end of sending as its end, as most servers do: who closes does not wait for an answer."""
        return False

    def pause_writing(self) -> None:
        """Stop reading requests of a client that does not read answers."""
        self.blocked = True
        self.last_write = self._host.now
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self.blocked = False
        self._go_on_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return self._receiver.rest() if self._direct and self._receiver else _SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        """Take in bytes."""
        self.last_read = self._host.now
        if self._lingering:
            return
        if self._direct:
            if self._receiver is not None and self._receiver.filled(nbytes):
                self._direct = False
                self._parser = httptools.HttpRequestParser(self)  # the old one waits for this body
                self.on_message_complete()
            return
        fresh = not self._begun and self._current is None
        if fresh and (known := self._host.heads.match(bytes(_SCRATCH[:nbytes]))):
            self._take(*known)
            return
        self._overhead += nbytes
        self._messages = 0
        try:
            self._feed(_SCRATCH[:nbytes])
        except httptools.HttpParserError as error:
            self._broken(invalid(f"this is no HTTP/1.1 request: {error}"))
            return
        if (
            fresh
            and self._messages == 1
            and not (self._begun or self._lingering)
            and self._parser.get_http_version() == "1.1"
        ):
            method = self._parser.get_method().decode("latin-1")
            self._host.heads.learn(bytes(_SCRATCH[:nbytes]), method, _path(self._url), self._headers)
        if self._begun and self._overhead > MAX_HEAD:
            self._broken(
                RequestError(Code.HEADERS_TOO_LARGE, f"the headers are larger than {MAX_HEAD} bytes")
            )
        elif self._exchange is not None:
            receiver = self._receiver
            if receiver is not None and receiver.length is not None and receiver.length >= DIRECT:
                self._direct = not self._lingering

    def _take(self, head: Head, body: bytes) -> None:
        """Take a request whose head is known, as the parser's callbacks would."""
        self.request_began = self.last_read
        self._current = exchange = Exchange(self, head.method, head.path, head.headers, self._peer)
        exchange.body = body
        try:
            handler = self._host.admit(exchange)
        except RequestError as error:
            exchange.refused(error)
        else:
            handler(exchange)

    def _feed(self, data: bytes | memoryview) -> None:
        """Let the parser read. Raises HttpParserError."""
        while True:
            parser = self._parser
            try:
                parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if parser.get_method() == b"CONNECT":
                    self._lingering = True  # what follows was meant for somebody else
                    return
                head = without_offer(parser.get_method(), self._url, self._headers)
                data = head + bytes(data[offer.args[0] :])
                self._parser = httptools.HttpRequestParser(self)
            else:
                return

    # -- what the parser calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._begun = True
        self.request_began = self.last_read
        self._url = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        """Take in a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header; what trails a body is not needed."""
        if self._exchange is None:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Decide what becomes of the request, before its body comes."""
        self._overhead = 0
        parser, headers = self._parser, self._headers
        method = parser.get_method().decode("latin-1")
        if self._lingering or (b"upgrade" in headers and parser.should_upgrade() and method != "CONNECT"):
            return  # it comes again without its offer
        exchange = Exchange(self, method, _path(self._url), headers, self._peer)
        exchange.keep_alive = parser.should_keep_alive() and method != "CONNECT"
        if b"connection" in headers and parser.get_http_version() == "1.0":
            exchange.keep_alive = False  # to keep it would take a header of its own
        self._exchange = exchange
        self._small = b""
        self._receiver = None
        try:
            self._handler = self._host.admit(exchange)
            self._expect_body(exchange, headers)
        except RequestError as error:
            self._refuse(exchange, error, headers)

    def _refuse(self, exchange: Exchange, error: RequestError, headers: dict[bytes, bytes]) -> None:
        """Refuse a request by its head: after a small body, so that the connection goes on, or at once."""
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or b"expect" in headers or int(length) >= DIRECT:
            self._refuse_early(exchange, error)
        else:
            self._receiver = None
            self._handler = lambda whole: whole.refused(error)

    def _expect_body(self, exchange: Exchange, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length")
        tensors_at = headers.get(b"inference-header-content-length")
        if length is not None:
            size = int(length)  # the parser has made sure that it is a number
            if size > self._host.max_body:
                raise too_large(self._host.max_body)
            if size >= DIRECT or (tensors_at is not None and size):
                self._host.charge(size)
                exchange.charged = size
                at = int(tensors_at) if tensors_at and tensors_at.isdigit() and len(tensors_at) < 10 else None
                self._receiver = Receiver(size, at)
        elif b"transfer-encoding" in headers:
            self._receiver = Receiver(None, None)
        if headers.get(b"expect", b"").lower() == b"100-continue" and self._current is None:
            self._transport.write(_CONTINUE)

    def on_body(self, data: bytes) -> None:
        """Take in a part of the body."""
        self._overhead = 0
        exchange = self._exchange
        if exchange is None or self._handler is None:
            return  # it was refused: what still comes is not wanted
        receiver = self._receiver
        if receiver is None:
            if not self._small:
                self._small = data
                return
            receiver = self._receiver = Receiver(None, None)
            receiver.add(self._small)
        if receiver.length is None:
            try:
                if receiver.received + len(data) > self._host.max_body:
                    raise too_large(self._host.max_body)
                self._host.charge(len(data))
                exchange.charged += len(data)
            except RequestError as error:
                self._refuse_early(exchange, error)
                return
        receiver.add(data)

    def on_message_complete(self) -> None:
        """Hand the request over, or keep it until the one before it is answered."""
        exchange, handler = self._exchange, self._handler
        self._exchange = self._handler = None
        self._begun = False
        self._overhead = 0
        self._messages += 1
        if exchange is None or handler is None:
            return
        if self._receiver is not None:
            exchange.body = self._receiver.body()
            self._receiver = None
        else:
            exchange.body = self._small
        if self._current is None:
            self._current = exchange
            handler(exchange)
        else:
            self._ready.append((exchange, handler))
            self._transport.pause_reading()

    # -- answers

    def write(self, exchange: Exchange, pieces: list[Body]) -> None:
        """See `Link`."""
        self._release(exchange)
        transport = self._transport
        if transport.is_closing():
            return
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writelines(pieces)
        self._current = None
        if self._ready and exchange.keep_alive:
            self._loop.call_soon(self._next)
        elif self._last or not exchange.keep_alive:
            self._end()

    def _next(self) -> None:
        if self._ready and self._current is None:
            self._current, handler = self._ready.popleft()
            handler(self._current)
        self._go_on_reading()

    def _go_on_reading(self) -> None:
        if not self._ready and not self.blocked and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def date(self) -> bytes:
        """See `Link`."""
        return self._host.date

    def closing(self, exchange: Exchange) -> bool:
        """See `Link`."""
        if not exchange.keep_alive:
            return True
        if self._ready:
            return False  # what has come is answered
        if self.old or self._host.ending:
            self._last = True
        return self._last

    def _refuse_early(self, exchange: Exchange, error: RequestError) -> None:
        """Answer a request before its body has come, and end the connection: what comes is not worth reading."""
        self._exchange = self._handler = self._receiver = None
        self._last = self._lingering = True
        self._host.release(exchange.charged)
        exchange.charged = 0
        if self._current is not None:  # pipelined behind one that is not answered yet
            self._ready.append((exchange, lambda refused: refused.refused(error)))
            return
        self._current = exchange
        exchange.refused(error)

    def _broken(self, error: RequestError) -> None:
        """Answer what is no request, if nothing is owed before it, and end the connection."""
        if self._lingering:
            return  # the last answer was given, or will be
        if self._exchange is not None:
            self._refuse_early(self._exchange, error)
            return
        self._last = self._lingering = True
        if self._current is None:
            self._current = Exchange(self, "GET", "", {}, self._peer)
            self._current.refuse(error)

    def _end(self) -> None:
        transport = self._transport
        if not self._lingering:
            transport.close()
        elif not transport.is_closing():
            # A socket that is closed with unread bytes in it resets the connection, and the answer may be lost.
            transport.write_eof()
            self._loop.call_later(_LINGER, transport.close)

    def charge(self, exchange: Exchange, size: int) -> None:
        """See `Link`."""
        self._host.charge(size)
        exchange.charged += size

    def _release(self, exchange: Exchange) -> None:
        if exchange.charged:
            self._host.release(exchange.charged)
            exchange.charged = 0

    # -- what the server calls

    @property
    def idle(self) -> bool:
        """Say whether nothing was asked that is not answered, and nothing is being asked."""
        return self._current is None and not self._begun and not self._ready

    @property
    def receiving(self) -> bool:
        """Say whether a request has begun to come and is not whole."""
        return self._begun and not self._lingering

    def time_out(self) -> None:
        """Answer a request that does not come whole, and end the connection."""
        error = RequestError(Code.REQUEST_TIMEOUT, "the request took too long to come; send it again")
        self._direct = False
        self._broken(error)

    def close(self) -> None:
        """End an idle connection."""
        self._transport.close()

    def abort(self) -> None:
        """End at once; a client may see a reset."""
        self._transport.abort()


def _path(target: bytes) -> str:
    """Return the path in a request's target, decoded; a proxy's target has scheme and host before it."""
    path = target.split(b"?", 1)[0].decode("latin-1")
    if not path.startswith("/") and "://" in path:
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return unquote(path) if "%" in path else path


def too_large(limit: int) -> RequestError:
    """Return the error of a body that is too large."""
    return RequestError(
        Code.TOO_LARGE,
        f"the body is larger than {limit:,} bytes, the most that this server takes;"
        " send smaller batches, or binary tensors in place of JSON",
    )
