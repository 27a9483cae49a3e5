"""What the operator reads of drift, in pages that the runtime wrote, and in others."""

from __future__ import annotations

import numpy as np
import pytest
from aiohttp import web

from pilothouse.metrics.asking import Patience
from pilothouse.metrics.drift import read_drift
from pilothouse.metrics.reports import http_listener
from pilothouse_runtime.core.predictor import Job
from pilothouse_runtime.core.profiles import make_profile
from pilothouse_runtime.core.states import Readiness
from pilothouse_runtime.core.tensors import Datatype, Tensor
from pilothouse_runtime.serve.drift import Drift
from pilothouse_runtime.serve.metrics import Metrics
from tests.unit.metrics.servers import Pods, source

GOOD, BAD, SILENT = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def page(rows: int) -> bytes:
    """Return what a runtime tells that has seen so many rows, all of them far off."""
    drift = Drift(make_profile({"x": np.arange(1000, dtype=np.float32)}, {}), iter(range(10**6)).__next__)
    metrics = Metrics(Readiness())
    metrics.show(drift.families)
    for _ in range(rows // 10):
        seen = drift.begin(
            Job([Tensor("x", Datatype.FP32, np.full(10, -1, np.float32))], lambda result: None)
        )
        assert seen is not None
        seen([])
    return metrics.render("")[0]


def test_what_the_runtime_tells_is_read() -> None:
    told = read_drift(page(200))
    assert told is not None
    assert told.rows == 200
    index, threshold = told.columns["input.x", "value"]
    assert index > 1 > threshold > 0.1


def test_too_few_rows_are_nothing() -> None:
    assert read_drift(page(90)) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"pilothouse_drift{tensor=",
        b'pilothouse_drift{tensor="x",column="a"} NaN\npilothouse_drift_threshold{tensor="x",column="a"} 1',
        b'pilothouse_drift{tensor="x",column="a"} +Inf\npilothouse_drift_threshold{tensor="x",column="a"} 1',
        b'pilothouse_drift{tensor="x",column="a"} 1\npilothouse_drift_threshold{tensor="x",column="a"} 0',
        b'pilothouse_drift{tensor="x",column="a"} 1',
    ],
)
def test_odd_pages_say_nothing(content: bytes) -> None:
    assert read_drift(content) is None


async def test_pods_are_asked_and_others_left_out(pods: Pods) -> None:
    async def good(_: web.Request) -> web.StreamResponse:
        return web.Response(body=page(200), content_type="text/plain")

    async def bad(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500, body=page(200))

    await pods.start(GOOD, good)
    await pods.start(BAD, bad)
    async with http_listener(port=pods.port, patience=Patience(one=0.5, all=1.0)) as listener:
        told = await listener.drift([source(address, address) for address in (GOOD, BAD, SILENT)])
    assert told.keys() == {GOOD}
    assert told[GOOD].rows == 200
