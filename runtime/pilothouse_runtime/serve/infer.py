"""Inference requests over HTTP: from the body to the data plane and back, in version 2 and in version 1."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pilothouse_runtime.codecs import oip, v1
from pilothouse_runtime.codecs.compression import check_encoding, choose_encoding, compress, decompress
from pilothouse_runtime.core.errors import Code, RequestError, invalid
from pilothouse_runtime.core.requests import InferResponse
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.http.exchange import JSON, Body, Exchange

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], None]

_BINARY: Final = b"application/octet-stream"
_WORTH_COMPRESSING: Final = 1024  # bytes
_LONG: Final = 65536  # bytes; more are compressed in a thread, while the loop goes on
# What a proxy says of how long it waits (Envoy, "HTTP header manipulation"), in milliseconds.
PROXY_TIMEOUT: Final = b"x-envoy-expected-rq-timeout-ms"


class Inference:
    """Takes inference requests; each is opened and closed in the data plane, whatever becomes of it.

    Args:
        max_body: bytes of a body, also once it is decompressed.
    """

    def __init__(self, plane: DataPlane, max_body: int) -> None:
        self.plane = plane
        self.max_body = max_body

    def admit(self, exchange: Exchange, names: dict[str, str]) -> Handler:
        """Take a request of version 2 by its head. Raises RequestError where it cannot be served."""
        return self._admit(_Version2("rest", self, exchange), names["model"], names["version"])

    def admit_v1(self, exchange: Exchange, names: dict[str, str]) -> Handler:
        """Take a request of version 1 by its head. Raises RequestError where it cannot be served."""
        return self._admit(_Version1("v1", self, exchange), names["model"], None)

    def _admit(self, request: _Request, model: str, version: str | None) -> Handler:
        exchange = request.exchange
        exchange.on_refused = request.failed
        exchange.on_gone = request.gone
        self.plane.check_servable(model, version)
        if b"content-encoding" in exchange.headers:
            check_encoding((exchange.header(b"content-encoding") or "").strip().lower())
        return request.whole


class _Request(ABC):
    """One inference request over HTTP."""

    __slots__ = ("_inference", "call", "exchange")

    def __init__(self, protocol: str, inference: Inference, exchange: Exchange) -> None:
        self._inference = inference
        self.exchange = exchange
        self.call = inference.plane.open(protocol, exchange.path, exchange.peer)

    @abstractmethod
    def infer(self, body: Body) -> None:
        """Decode and queue; `done` or `failed` is called later. Raises RequestError."""

    @abstractmethod
    def encode(self, response: InferResponse) -> tuple[list[Body], bytes, bytes]:
        """Return the body's pieces, their content type and further headers. Raises RequestError."""

    def whole(self, exchange: Exchange) -> None:
        """Go on once the body has come."""
        headers, call = exchange.headers, self.call
        call.received = len(exchange.body)
        if b"traceparent" in headers:
            call.traceparent = headers[b"traceparent"].decode("latin-1")
        if b"x-request-id" in headers:
            call.request_id = headers[b"x-request-id"].decode("latin-1")
        if b"content-encoding" not in headers:
            self._begin(exchange.body)
            return
        encoding = headers[b"content-encoding"].decode("latin-1").strip().lower()
        if encoding == "identity":
            self._begin(exchange.body)
        else:
            limit = self._inference.max_body
            work = partial(decompress, exchange.body, encoding, limit)
            _apart(work, len(exchange.body), self._decompressed, self.failed)

    def _decompressed(self, body: Body) -> None:
        if self.exchange.answered:
            return  # the client has left meanwhile
        try:
            self.exchange.charge(len(body))
        except RequestError as error:
            self.failed(error)
        else:
            self._begin(body)

    def _begin(self, body: Body) -> None:
        try:
            if PROXY_TIMEOUT in self.exchange.headers:
                waits = milliseconds(self.exchange.headers[PROXY_TIMEOUT])
                self.call.deadline = self.call.started + waits
            self.infer(body)
        except RequestError as error:
            self.failed(error)
        except Exception:
            log.exception("%s %s failed in the server", self.exchange.method, self.exchange.path)
            self.failed(_own_fault())

    def done(self, response: InferResponse) -> None:
        """Answer."""
        try:
            pieces, content_type, extra = self.encode(response)
        except RequestError as error:
            self.failed(error)
            return
        except Exception:
            log.exception("the answer to %s %s cannot be written", self.exchange.method, self.exchange.path)
            self.failed(_own_fault())
            return
        accepted = self.exchange.headers.get(b"accept-encoding")
        if accepted is not None and sum(map(len, pieces)) >= _WORTH_COMPRESSING:
            encoding = choose_encoding(accepted.decode("latin-1"))
            if encoding is not None:
                self._compress(pieces, encoding, content_type, extra)
                return
        self._answer(pieces, content_type, extra)

    def _compress(self, pieces: list[Body], encoding: str, content_type: bytes, extra: bytes) -> None:
        extra += b"content-encoding: %b\r\nvary: accept-encoding\r\n" % encoding.encode()
        size = sum(map(len, pieces))
        _apart(
            partial(compress, pieces, encoding),
            size,
            lambda small: self._answer([small], content_type, extra),
            self.failed,
        )

    def _answer(self, pieces: list[Body], content_type: bytes, extra: bytes) -> None:
        if not self.exchange.answered:  # the client may have left while its answer was compressed
            self.call.sent = self.exchange.answer(200, pieces, content_type, extra)
            self._inference.plane.close(self.call, 200)

    def failed(self, error: RequestError) -> None:
        """Answer with an error."""
        if not self.exchange.answered:
            self.call.sent = self.exchange.refuse(error)
            self._inference.plane.close(self.call, error.code, error.message)

    def gone(self) -> None:
        """Drop it: the client has left."""
        self._inference.plane.cancel(self.call)
        self._inference.plane.close(self.call, Code.CANCELLED, "the client left")


class _Version2(_Request):
    """Requests and answers of the Open Inference Protocol v2."""

    __slots__ = ()

    def infer(self, body: Body) -> None:
        request = oip.decode_request(body, self.exchange.header(b"inference-header-content-length"))
        self._inference.plane.infer(self.call, request, self.done, self.failed)

    def encode(self, response: InferResponse) -> tuple[list[Body], bytes, bytes]:
        pieces, header_length = oip.encode_response(response)
        if header_length is None:
            return pieces, JSON, b""
        return pieces, _BINARY, b"inference-header-content-length: %d\r\n" % header_length


class _Version1(_Request):
    """Requests and answers of version 1, `:predict`."""

    __slots__ = ("_rows",)

    def infer(self, body: Body) -> None:
        plane = self._inference.plane
        request, self._rows = v1.decode_predict(body, plane.signature())
        plane.infer(self.call, request, self.done, self.failed)

    def encode(self, response: InferResponse) -> tuple[list[Body], bytes, bytes]:
        return [v1.encode_predict(response, self._rows)], JSON, b""


def _own_fault() -> RequestError:
    return RequestError(Code.INTERNAL, "the server failed on this request; its log says why")


def milliseconds(value: bytes) -> float:
    """Return the seconds in a header of milliseconds."""
    if not value.isdigit() or len(value) > 12:
        raise invalid(f"{PROXY_TIMEOUT.decode()}: must be a number of milliseconds")
    return int(value) / 1000


def _apart(
    work: Callable[[], Any], size: int, done: Callable[[Any], None], failed: Callable[[RequestError], None]
) -> None:
    """Do work on so many bytes, in a thread if they are many; then `done` with its result, in this thread."""

    def finish(future: asyncio.Future[Any]) -> None:
        error = future.exception()
        if error is None:
            done(future.result())
        elif isinstance(error, RequestError):
            failed(error)
        else:
            log.error("a body could not be read or written", exc_info=error)
            failed(_own_fault())

    if size > _LONG:
        asyncio.get_running_loop().run_in_executor(None, work).add_done_callback(finish)
        return
    try:
        result = work()
    except RequestError as error:
        failed(error)
    else:
        done(result)
