"""Lines of several processes in one pipe."""

from __future__ import annotations

import os
import select

import pytest

from pilothouse_runtime.serve.accesslog import AccessLog
from pilothouse_runtime.serve.calls import Call


async def test_writes_are_whole_lines_that_a_pipe_does_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda descriptor, text: written.append(bytes(text)) or len(text))
    log = AccessLog(2, 0.0)
    for number in range(100):
        call = Call("rest", 1.0, f"/{number}")
        call.error = "e" * (5000 if number == 50 else 10)
        log.observe(call, 2.0)
    log.flush()
    assert all(piece.endswith(b"\n") for piece in written)
    assert [piece.count(b"\n") for piece in written if len(piece) > select.PIPE_BUF] == [
        1
    ]  # cannot be helped
    assert 2 < len(written) < 20
    lines = b"".join(written).splitlines()
    assert [b'"/%d"' % number in line for number, line in enumerate(lines)] == [True] * 100
