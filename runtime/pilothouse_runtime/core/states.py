"""Where a model pod stands between its start and its end, and whether it wants requests."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a pod, in the order in which it passes through them; Failed may follow any."""

    STARTING = "Starting"
    FETCHING = "Fetching"
    LOADING = "Loading"
    WARMING_UP = "WarmingUp"
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


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
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = State(Phase.STARTING)

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    def enter(self, phase: Phase, message: str = "") -> State:
        """Move to a phase unless the end has come already; return the state that holds now."""
        with self._lock:
            if self._state.phase not in _LAST:
                self._state = State(phase, message)
            return self._state
