"""When a worker that died is started anew, when that is given up, and when one that does not stir is ended.

Pure policies: time is an argument.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_MOST: Final = 5  # deaths of workers that answered nothing
_WITHIN: Final = 60.0  # seconds
_STIRLESS: Final = 6  # looks in a row
_FIRST_WAIT: Final = 0.1  # seconds; twice as long each time


class Patience:
    """A worker that had answered requests is replaced at once; one that had not may be the next of many."""

    def __init__(self) -> None:
        self._fruitless: deque[float] = deque(maxlen=_MOST)  # when they died

    def died(self, *, fruitful: bool, now: float) -> float | None:
        """Return the seconds to wait before a new one is started; None: never again.

        Args:
            fruitful: it had answered at least one request.
            now: monotonic seconds.
        """
        if fruitful:
            return 0.0
        self._fruitless.append(now)
        recent = sum(now - died < _WITHIN for died in self._fruitless)
        if recent == _MOST:
            return None
        return 0.0 if recent == 1 else float(_FIRST_WAIT * 2 ** (recent - 2))


class Pulse:
    """Finds workers that do not stir any more: the others answer the container's probes in their place.

    It counts looks and not seconds: a container that was frozen for a while has no dead workers for that.
    """

    def __init__(self) -> None:
        self._last: dict[int, float] = {}  # beats, by worker
        self._looks: dict[int, int] = {}  # in a row that saw the same

    def stopped(self, worker: int, beats: float) -> bool:
        """Say whether a worker is to be ended, which has beaten so many times by this look."""
        same = self._last.get(worker) == beats
        self._last[worker] = beats
        self._looks[worker] = self._looks.get(worker, 0) + 1 if same else 0
        return self._looks[worker] >= _STIRLESS
