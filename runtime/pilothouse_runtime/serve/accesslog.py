"""One JSON line for each inference request, written some at a time so that nobody waits for a pipe."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import orjson

from pilothouse_runtime.serve.calls import Call

_EVERY: Final = 0.1  # seconds
_MOST: Final = (
    16 * 1024 * 1024
)  # bytes that wait for a pipe which nobody reads; further lines are counted, and lost
# One format takes half as long as an f-string of so many pieces.
_LINE: Final = (
    '{"ts":"%s.%03d+00:00","level":"info","msg":"request","protocol":"%s","path":%s,"peer":%s,"status":%d'
    ',"seconds":%.6f,"received":%d,"sent":%d%s}\n'
)
_RAN: Final = ',"batch":%d,"queue":%.6f,"model":%.6f'


class AccessLog:
    """Writes what `observe` is told to a file descriptor, in a thread of its own.

    Fields: ts (ISO 8601, UTC, when it ended), level, msg "request", protocol, path, peer, status, seconds (from its
    head to its answer), received and sent (bytes of bodies), and where known id, trace (the W3C trace id), error, batch
    (rows that ran together), queue and model (seconds).

    Args:
        offset: Unix seconds less monotonic seconds.
    """

    def __init__(self, descriptor: int, offset: float | None = None) -> None:
        self._descriptor = descriptor
        self._offset = time.time() - time.monotonic() if offset is None else offset
        self._text = bytearray()
        self._lost = 0
        self._scheduled = False
        self._writing = threading.Lock()
        self._second = -1
        self._date = ""

    def observe(self, call: Call, now: float) -> None:
        """Take note of a call that ended at `now`, in monotonic seconds."""
        if len(self._text) >= _MOST:
            self._lost += 1
            return
        self._text += self._text_of(call, now).encode()
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(_EVERY, self._hand_over)

    def flush(self) -> None:
        """Write all that waits."""
        self._write(self._take())

    def _hand_over(self) -> None:
        self._scheduled = False
        asyncio.get_running_loop().run_in_executor(None, self._write, self._take())

    def _take(self) -> bytearray:
        """Return what waits, and begin anew: in the thread that adds lines, so that none gets lost between the two."""
        text, self._text = self._text, bytearray()
        if self._lost:
            text += _line({"level": "warning", "msg": "requests were not logged", "lost": self._lost})
            self._lost = 0
        return text

    def _write(self, text: bytearray) -> None:
        with self._writing:
            for piece in _pieces(text):
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._descriptor, view) :]

    def _text_of(self, call: Call, now: float) -> str:
        """Return the line of a call. By hand: what a library makes of a dict takes twice as long, for every request."""
        wall = now + self._offset
        second = int(wall)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        job = call.job
        more = ""
        if call.request_id:
            more = f',"id":{_quoted(call.request_id)}'
        if call.traceparent.count("-") == 3:
            more += f',"trace":{_quoted(call.traceparent.split("-")[1])}'
        if call.error:
            more += f',"error":{_quoted(call.error)}'
        if job is not None and job.ended:
            queue, model = job.started - job.arrived, job.ended - job.started
            more += _RAN % (job.batch, queue, model)
        return _LINE % (
            self._date,
            (wall - second) * 1000,
            call.protocol,
            _known(call.path),
            _known(call.peer),
            call.code,
            now - call.started,
            call.received,
            call.sent,
            more,
        )


def _quoted(text: str) -> str:
    """Return a text as JSON has it."""
    return orjson.dumps(text).decode()


_known = lru_cache(maxsize=1024)(_quoted)


def _pieces(text: bytearray) -> Iterator[bytearray]:
    """Yield whole lines, as many at a time as a pipe takes unmixed: other processes and our own log write there too."""
    begin = 0
    while begin < len(text):
        end = text.rfind(b"\n", begin, begin + select.PIPE_BUF) + 1
        if not end:  # a line that is longer than that
            end = text.index(b"\n", begin) + 1
        yield text[begin:end]
        begin = end


def _line(record: dict[str, Any]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
