"""The REST front without a network: a played transport and a played loop, a model that gives back what it gets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from pilothouse_runtime import contract
from pilothouse_runtime.core.predictor import Job, ModelDescription
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.serve.calls import Call
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.explain import Explaining
from pilothouse_runtime.serve.http.connection import Connection
from pilothouse_runtime.serve.http.server import HttpLimits, HttpServer
from pilothouse_runtime.serve.metrics import Metrics
from pilothouse_runtime.serve.rest import Rest

INFER: Final = b"/v2/models/tiny/infer"
MAX_BODY: Final = 300_000
ROW: Final = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 3)),),
    (TensorSpec("x", Datatype.FP32, (-1, 3)),),
)


class PlayedLoop:
    """As much of an event loop as a connection uses; `run` does what is due."""

    def __init__(self) -> None:
        self._due: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self.later: list[Callable[..., Any]] = []

    def call_soon(self, work: Callable[..., Any], *arguments: Any) -> None:
        """See asyncio."""
        self._due.append((work, arguments))

    def call_later(self, seconds: float, work: Callable[..., Any]) -> None:
        """Keep what is to be done later; nothing here waits."""
        self.later.append(work)

    def run(self) -> None:
        """Do all that is due, and what becomes due by it."""
        while self._due:
            work, arguments = self._due.popleft()
            work(*arguments)


class PlayedTransport:
    """Keeps what is written."""

    def __init__(self, loop: PlayedLoop) -> None:
        self._loop = loop
        self.sent = bytearray()
        self.closing = False
        self.reading = True
        self.eof = False
        self.lost: Callable[[Exception | None], None]

    def get_extra_info(self, name: str) -> Any:
        """See asyncio."""
        return ("127.0.0.1", 1) if name == "peername" else None

    def write(self, data: Any) -> None:
        """See asyncio."""
        assert not self.closing, "written to a connection that is closed"
        assert not self.eof, "written after the end"
        self.sent += data

    def writelines(self, pieces: Iterable[Any]) -> None:
        """See asyncio."""
        for piece in pieces:
            self.write(piece)

    def write_eof(self) -> None:
        """See asyncio."""
        self.eof = True

    def is_closing(self) -> bool:
        """See asyncio."""
        return self.closing

    def pause_reading(self) -> None:
        """See asyncio."""
        self.reading = False

    def resume_reading(self) -> None:
        """See asyncio."""
        self.reading = True

    def close(self) -> None:
        """See asyncio."""
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self.lost, None)

    abort = close


class Echo:
    """A predictor that answers with its inputs, when the loop comes to it; never with nothing waiting forever."""

    def __init__(self, loop: PlayedLoop, signature: Signature | None) -> None:
        self._loop = loop
        self.description = ModelDescription("torchscript", "played", signature)
        self.waiting = 0
        self.held: list[Job] | None = None  # a list holds jobs back

    def submit(self, job: Job) -> None:
        """See `Predictor`."""
        if self.held is None:
            self._loop.call_soon(self._answer, job)
        else:
            self.held.append(job)

    def cancel(self, job: Job) -> None:
        """See `Predictor`."""

    def release(self) -> None:
        """Answer what was held back."""
        held, self.held = self.held or [], None
        for job in held:
            self.submit(job)

    def _answer(self, job: Job) -> None:
        if not job.cancelled:
            job.started = job.ended = 1.0
            job.reply([Tensor(tensor.name, tensor.datatype, tensor.array) for tensor in job.inputs])


@dataclass
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def ends(self) -> bool:
        """Say whether the connection ends with it."""
        return self.headers.get(b"connection") == b"close"


class Wire:
    """One server; `open` opens a connection."""

    def __init__(self, signature: Signature | None = ROW) -> None:
        self.loop = PlayedLoop()
        self.closed: list[Call] = []  # calls that have ended
        readiness = Readiness()
        self.metrics = Metrics(readiness)
        environment = {contract.ENV_MODEL_NAME: "tiny", contract.ENV_MODEL_URI: "file:///none"}
        plane = DataPlane(
            read_settings(environment), readiness, self.metrics, [lambda call, now: self.closed.append(call)]
        )
        self.model = Echo(self.loop, signature)
        plane.attach(self.model)
        rest = Rest(
            plane, readiness, self.metrics, MAX_BODY, b"{}", Explaining(plane, self.metrics, "1", MAX_BODY)
        )
        self.server = HttpServer(rest.admit, HttpLimits(MAX_BODY, 4 * MAX_BODY, 0))
        self.server.date = b"now"

    def open(self) -> Client:
        """Open a connection."""
        return Client(self)

    def counted(self) -> dict[int, int]:
        """Return how many requests are in the counter, by status."""
        page = self.metrics.render("")[0].decode()
        lines = [line for line in page.splitlines() if line.startswith(contract.METRIC_REQUESTS + "{")]
        return {int(line.split('"')[1]): int(float(line.rsplit(" ", 1)[1])) for line in lines}

    def check_settled(self) -> None:
        """Check that every request was ended once, and that nothing is left of any."""
        assert self.metrics.in_flight == 0
        assert self.server.body_bytes == 0
        assert len(set(map(id, self.closed))) == len(self.closed), "a request was ended twice"
        assert sum(self.counted().values()) == len(self.closed)
        assert all(call.code < 500 for call in self.closed), [(call.code, call.error) for call in self.closed]


class Client:
    """The far end of one connection."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.received = bytearray()  # by the server
        self._rest = b""
        self.transport = PlayedTransport(wire.loop)
        self.connection = Connection(wire.server, cast(asyncio.AbstractEventLoop, wire.loop))
        self.transport.lost = self.connection.connection_lost
        self.connection.connection_made(cast(asyncio.Transport, self.transport))

    def send(self, data: bytes) -> None:
        """Deliver bytes, as far as they are read; the loop runs where reading is paused, and in the end."""
        view = memoryview(self._rest + data)
        self._rest = b""
        while view and not self.transport.closing:
            if not self.transport.reading:
                self._wire.loop.run()
                if not self.transport.reading:
                    self._rest = bytes(view)  # the model keeps what is before it
                    return
                continue
            room = self.connection.get_buffer(len(view))
            assert len(room), "a buffer without room"
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self.received += view[:size]
            view = view[size:]
            self.connection.buffer_updated(size)
        self._wire.loop.run()

    def rest(self) -> None:
        """Deliver what could not be delivered before."""
        self.send(b"")

    def leave(self) -> None:
        """End the connection."""
        self.transport.close()
        self._wire.loop.run()

    def answers(self) -> list[Answer]:
        """Return what has come back; interim answers are left out."""
        return read_answers(bytes(self.transport.sent))


def read_answers(data: bytes) -> list[Answer]:
    """Take apart what a server wrote; fails where that is not a row of whole HTTP/1.1 answers."""
    answers = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, "an answer without an end of its head"
        first, *lines = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1"
        if status == b"100":
            continue
        headers = dict(line.split(b": ", 1) for line in lines)
        size = int(headers[b"content-length"])
        assert len(data) >= size, "an answer that is cut"
        answers.append(Answer(int(status), headers, data[:size]))
        data = data[size:]
    return answers


def post(body: bytes, path: bytes = INFER, **headers: str) -> bytes:
    """Return a request; `_` in names of headers stands for -."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in headers.items()]
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n%b" % (
        path,
        len(body),
        b"".join(lines),
        body,
    )


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    """Return a request whose body comes in pieces."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (
        INFER,
        body,
        trailer,
    )
