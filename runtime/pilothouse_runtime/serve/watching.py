"""Lets some requests be looked at on their way to the model and back; where nothing looks, it is not there at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.predictor import Job, ModelDescription, Predictor
from pilothouse_runtime.core.tensors import Tensor

Result = list[Tensor] | RequestError
Seen = Callable[[Result], None]


class Watcher(Protocol):
    """Looks at requests, in the thread of the event loop."""

    def begin(self, job: Job) -> Seen | None:
        """Return what is to be told the result of this job; None: it is not looked at. Called for every job."""


class Watched:
    """A predictor (`core.predictor.Predictor`) whose jobs watchers see."""

    def __init__(self, predictor: Predictor, watchers: Sequence[Watcher]) -> None:
        self._predictor = predictor
        self._watchers = tuple(watchers)

    @property
    def description(self) -> ModelDescription:
        """See `Predictor`."""
        return self._predictor.description

    def submit(self, job: Job) -> None:
        """See `Predictor`."""
        for watcher in self._watchers:
            seen = watcher.begin(job)
            if seen is not None:
                job.reply = _both(seen, job.reply)
        self._predictor.submit(job)

    def cancel(self, job: Job) -> None:
        """See `Predictor`."""
        self._predictor.cancel(job)


def _both(seen: Seen, reply: Callable[[Result], None]) -> Callable[[Result], None]:
    def tell(result: Result) -> None:
        try:
            seen(result)
        finally:
            reply(result)

    return tell
