"""Log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from pilothouse.control.context import current_key
from pilothouse.edge import logging as json_logging
from pilothouse.plan.seen import Json


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged meanwhile; the loggers are put back afterwards."""
    loggers = [logging.getLogger(name) for name in (None, "kopf", "kopf._core.reactor.running")]
    levels = [logger.level for logger in loggers]
    handlers = logging.getLogger().handlers[:]
    logging.getLogger().handlers.clear()
    stream = io.StringIO()
    json_logging.configure("INFO", stream)
    yield stream
    logging.getLogger().handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def lines(stream: io.StringIO) -> list[Json]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_tells_when_who_what_and_about_which_object(stream: io.StringIO) -> None:
    token = current_key.set("vision/digits")
    logging.getLogger("pilothouse.test").info("applied %s", "it", extra={"revision": "digits-1"})
    current_key.reset(token)
    (line,) = lines(stream)
    assert line.pop("ts").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "pilothouse.test",
        "msg": "applied it",
        "key": "vision/digits",
        "revision": "digits-1",
    }


def test_a_traceback_is_one_field_of_one_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("broken\nin two")  # noqa: TRY301 - to have a traceback
    except ValueError:
        logging.getLogger("pilothouse.test").exception("it failed")
    (line,) = lines(stream)
    assert "Traceback" in line["exc"]
    assert "ValueError: broken" in line["exc"]


def test_what_libraries_hang_onto_a_record_is_not_written(stream: io.StringIO) -> None:
    extra = {"vault": {"token": "s3cret"}, "k8s_ref": {"namespace": "vision", "name": "digits", "uid": "u"}}
    logging.getLogger("kopf.clients").warning("seen", extra=extra)
    (line,) = lines(stream)
    assert line["key"] == "vision/digits"
    assert "s3cret" not in stream.getvalue()


def test_kopf_does_not_tell_of_every_event(stream: io.StringIO) -> None:
    logging.getLogger("kopf.objects").info("handler succeeded")
    logging.getLogger("pilothouse.test").debug("detail")
    assert lines(stream) == []
