"""Progress lines for people: one per step, with the seconds since the command began."""

import sys
import time


class Report:
    """Prints to standard error, so that `env` can be evaluated by a shell while steps are shown."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since this report began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Print one line, prefixed with the elapsed seconds."""
        print(f"[{self.elapsed:6.1f} s] {text}", file=sys.stderr, flush=True)
