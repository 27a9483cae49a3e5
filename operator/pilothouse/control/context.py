"""Which object the running pass is about, for the log."""

from __future__ import annotations

from contextvars import ContextVar

current_key: ContextVar[str] = ContextVar("current_key", default="")
