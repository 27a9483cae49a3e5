"""Where a model pod stands between its start and its end, since when, and whether it wants requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pilothouse_runtime.contract import Phase, PhaseTime, PodReport

__all__ = ["Phase", "PhaseTime", "Readiness", "State", "ready_body"]


@dataclass(frozen=True)
class State:
    """A phase and, for people, what is going on in it."""

    phase: Phase
    message: str = ""

    @property
    def ready(self) -> bool:
        """Say whether new requests are welcome."""
        return self.phase is Phase.READY

    @property
    def serving(self) -> bool:
        """Say whether requests are answered: while draining they still are."""
        return self.phase in (Phase.READY, Phase.DRAINING)


_LAST = (Phase.DRAINING, Phase.FAILED)


class Readiness:
    """The one place that holds the state; the loading thread writes it, every request reads it.

    Draining and Failed are ends: what the loader may say after them changes nothing.

    Args:
        wall: Unix seconds, to say when a phase began.
        clock: monotonic seconds, to say how long it took.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._clock = clock
        self._lock = threading.Lock()
        self._state = State(Phase.STARTING)
        self._entered = clock()
        self._history: tuple[PhaseTime, ...] = (PhaseTime(Phase.STARTING, wall()),)

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    @property
    def history(self) -> list[PhaseTime]:
        """The phases entered so far, oldest first; the last is the present one, and still lasts."""
        return list(self._history)

    def enter(self, phase: Phase, message: str = "") -> State:
        """Move to a phase unless the end has come already; return the state that holds now.

        Entering the present phase again changes the message and nothing else.
        """
        with self._lock:
            if self._state.phase not in _LAST:
                if phase is not self._state.phase:
                    self._begin(phase)
                self._state = State(phase, message)
            return self._state

    def began_earlier(self, seconds: float) -> None:
        """Count to the present phase what was spent on it before this process began, in another container."""
        with self._lock:
            *before, last = self._history
            self._entered -= seconds
            self._history = (*before, replace(last, since=last.since - seconds))

    def report(self) -> PodReport:
        """Return the state and how it came to it, as of one moment."""
        with self._lock:
            state, history = self._state, self._history
        return PodReport(state.phase, state.message, history[-1].since, history)

    def _begin(self, phase: Phase) -> None:
        now = self._clock()
        *before, last = self._history
        ended = replace(last, seconds=now - self._entered)
        self._entered = now
        self._history = (*before, ended, PhaseTime(phase, self._wall()))


def ready_body(readiness: Readiness) -> dict[str, Any]:
    """Return the body that every front answers with at `contract.READY_PATH`."""
    return readiness.report().fields()
