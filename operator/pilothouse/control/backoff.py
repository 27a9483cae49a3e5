"""How long to wait after something failed: twice as long each time, for each key by itself."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Exponential delays with full jitter above half, so that many keys do not come back in step."""

    def __init__(self, first: float = 0.5, most: float = 60.0, rng: random.Random | None = None) -> None:
        self._first = first
        self._most = most
        self._failures: dict[K, int] = {}
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing

    def next(self, key: K) -> float:
        """Count one more failure of `key` and return the seconds to wait."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        ceiling = min(self._first * 2.0 ** min(count, 30), self._most)
        return ceiling * self._rng.uniform(0.5, 1.0)

    def reset(self, key: K) -> None:
        """Forget the failures of `key`."""
        self._failures.pop(key, None)
