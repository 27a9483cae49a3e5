"""The access log: one line of JSON a request, and none that anybody waits for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator

import pytest

from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.serve.accesslog import AccessLog
from pilothouse_runtime.serve.calls import Call


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def call(code: int = 200, error: str = "") -> Call:
    made = Call("rest", 100.0, "/v2/models/digits/infer", "10.0.0.7:40312")
    made.received, made.sent, made.code, made.error = 921, 225, code, error
    return made


def lines(reader: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in os.read(reader, 1 << 20).splitlines()]


async def test_a_line(pipe: tuple[int, int]) -> None:
    log = AccessLog(pipe[1], offset=1_700_000_000.0)
    answered = call()
    answered.request_id = 'a "quoted" id'
    answered.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answered.job = job = Job((), lambda result: None)
    job.arrived, job.started, job.ended, job.batch = 100.001, 100.002, 100.0045, 7
    log.observe(answered, 100.25)
    log.flush()
    assert lines(pipe[0]) == [
        {
            "ts": "2023-11-14T22:15:00.250+00:00",
            "level": "info",
            "msg": "request",
            "protocol": "rest",
            "path": "/v2/models/digits/infer",
            "peer": "10.0.0.7:40312",
            "status": 200,
            "seconds": 0.25,
            "received": 921,
            "sent": 225,
            "id": 'a "quoted" id',
            "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
            "batch": 7,
            "queue": 0.001,
            "model": 0.0025,
        }
    ]


async def test_what_failed_says_why_and_nothing_of_a_run(pipe: tuple[int, int]) -> None:
    log = AccessLog(pipe[1])
    log.observe(call(404, "there is no model 'x' here"), 100.1)
    log.flush()
    (line,) = lines(pipe[0])
    assert (line["status"], line["error"]) == (404, "there is no model 'x' here")
    assert not line.keys() & {"batch", "queue", "model", "id", "trace"}


async def test_lines_are_written_by_themselves_after_a_moment(pipe: tuple[int, int]) -> None:
    log = AccessLog(pipe[1])
    os.set_blocking(pipe[0], False)
    for _ in range(3):
        log.observe(call(), 100.1)
    seen: list[dict[str, object]] = []
    async with asyncio.timeout(60):
        while len(seen) < 3:
            await asyncio.sleep(0.01)
            try:
                seen += lines(pipe[0])
            except BlockingIOError:
                continue
    assert [line["msg"] for line in seen] == ["request"] * 3
