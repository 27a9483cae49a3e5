"""What the loader tells the supervisor, as JSON lines through a pipe."""

from __future__ import annotations

import json
import os
from typing import Any

from pilothouse_runtime.contract import FailureReason, Phase
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.core.states import Readiness, State


class Reporter:
    """Writes to the pipe; only the loader does, and its lines are shorter than what a pipe takes in one piece."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def entered(self, phase: Phase, message: str) -> None:
        """Tell what phase it is in."""
        self._write({"phase": phase, "message": message})

    def loaded(self) -> None:
        """Tell that workers could start."""
        self._write({"loaded": True})

    def failed(self, failure: LoadError) -> None:
        """Tell why the container is to end."""
        self._write({"reason": failure.reason, "message": failure.message, "permanent": failure.permanent})

    def close(self) -> None:
        """Forget the pipe, in a process that was forked."""
        os.close(self._pipe)

    def _write(self, report: dict[str, Any]) -> None:
        line = json.dumps(report).encode() + b"\n"
        while line:
            line = line[os.write(self._pipe, line) :]


def read_failure(report: dict[str, Any]) -> LoadError:
    """Return the failure in a report that tells of one."""
    return LoadError(FailureReason(report["reason"]), report["message"], permanent=report["permanent"])


class ToldReadiness(Readiness):
    """The loader's state, which the supervisor is told, and workers inherit with all its history."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter: Reporter | None = reporter

    def enter(self, phase: Phase, message: str = "") -> State:
        """See `Readiness`."""
        if self._reporter is not None:
            self._reporter.entered(phase, message)
        return super().enter(phase, message)

    def keep_to_yourself(self) -> None:
        """Tell nobody any more, in a process that was forked."""
        self._reporter = None
