"""JSON lines on standard error, one for each log record."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from pilothouse.control.context import current_key

# What `extra=` may add to a line. Other libraries hang whole objects onto records, and objects may hold secrets.
_EXTRAS: Final = ("key", "revision")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: ts, level, logger, msg, and where known key, revision and exc."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        key = current_key.get() or _kopf_key(record)
        if key:
            line["key"] = key
        line |= {name: str(value) for name in _EXTRAS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exc"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Make all loggers of this process, kopf's included, write JSON lines of `level` and above.

    Args:
        level: a level's name as `logging` has it.
        stream: standard error where None.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At INFO kopf tells of every single event. That it gets no signals in its thread is as we want it.
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    logging.getLogger("kopf").setLevel(logging.DEBUG if debugging else logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


def _kopf_key(record: logging.LogRecord) -> str:
    reference = getattr(record, "k8s_ref", None)
    return f"{reference['namespace']}/{reference['name']}" if isinstance(reference, dict) else ""
