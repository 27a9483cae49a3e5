"""A model on torch that can be run in several ways: the fastest one that gives the same answers is taken."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final

import torch

from pilothouse_runtime.core.tensors import Signature, Tensor
from pilothouse_runtime.engine.failures import first_cause
from pilothouse_runtime.engine.likeness import copies, difference
from pilothouse_runtime.engine.torch_model import TorchModel

log = logging.getLogger(__name__)

Function = Callable[..., Any]  # takes a model's tensors in its order, and returns what the model returns
Way = tuple[
    str, Callable[[], Function | None]
]  # a name, and what makes it; None where the model has no such way

AS_IT_IS: Final = "as it is"
_BUDGET: Final = 0.03  # seconds in which a way is run again, to know better what it takes
_MOST_RUNS: Final = 20
_FASTER: Final = 0.95  # of the time before: what is only level is not changed
_CLEARLY: Final = 0.8


class GraphModel(TorchModel):
    """A model whose `function` may be another than the file has, once it is settled.

    Attributes:
        keeps: whether the file's own way is kept where another is only as fast.
    """

    keeps: ClassVar[bool] = True

    def __init__(
        self,
        function: Function,
        signature: Signature | None,
        device: torch.device,
        weights: Iterable[torch.Tensor],
        max_rows: int | None = None,
    ) -> None:
        super().__init__(signature, device, weights, max_rows)
        self.function = function
        self.way = AS_IT_IS

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the way that was chosen."""
        return self.function(*inputs)

    @abstractmethod
    def ways(self) -> Iterator[Way]:
        """Yield other ways to run the model, those that promise most first. What was taken for it is let go."""

    def settle(self, inputs: Sequence[Tensor]) -> float | None:
        """See `LoadedModel`. A model that has a memory, or throws dice, cannot be compared, and is left as it is."""
        want, first = self._timed(inputs)
        answers, second = self._timed(inputs)
        if difference(answers, want):
            return second
        before = min(first, second)
        best = before if self.keeps else float("inf")
        for name, make in self.ways():
            if best < _CLEARLY * before:
                break
            function, flaw, took = self.function, "", 0.0
            try:
                other = make()
                if other is None:
                    continue
                self.function = other
                flaw, took = self._tried(inputs, want)
            except Exception as error:  # whatever this way breaks, the model itself has run
                flaw = first_cause(error)
            if flaw:
                log.info("the model is not run %s: it would fail or answer otherwise: %s", name, flaw)
            if flaw or took > _FASTER * best:
                self.function = function
            else:
                self.way, best = name, took
        log.info("the model is run %s", self.way, extra={"seconds": round(best, 6)})
        return best if self.way != AS_IT_IS else before

    def _tried(self, inputs: Sequence[Tensor], want: Sequence[Tensor]) -> tuple[str, float]:
        """Return what is wrong with the answers, or "", and the seconds at best, once it has compiled."""
        flaw = difference(self._timed(inputs)[0], want)
        best, until, runs = float("inf"), time.perf_counter() + _BUDGET, 0
        while not flaw and runs < _MOST_RUNS and (not runs or time.perf_counter() < until):
            answers, took = self._timed(inputs)
            flaw, best, runs = difference(answers, want), min(best, took), runs + 1
        return flaw, best

    def _timed(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], float]:
        """Return the answers of a run, and its seconds."""
        given = copies(inputs)
        started = time.perf_counter()
        answers = self.run(given)
        took = time.perf_counter() - started
        return copies(answers), took
