"""JSON lines on standard error, one for each log record."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

# What `extra=` may add to a line; other libraries hang whole objects onto records.
_EXTRAS: Final = ("port", "grpc_port", "reason", "permanent", "method", "path", "status", "seconds")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: ts, level, logger, msg, and where known the extras and exc."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line |= {name: value for name in _EXTRAS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exc"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(level: str) -> None:
    """Make all loggers of this process, and warnings, write JSON lines of `level` and above."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
