"""A model on torch that can be run in several ways: the fastest one that gives the same answers is taken."""

from __future__ import annotations

import json
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import fx

from pilothouse_runtime.core.errors import RequestError
from pilothouse_runtime.core.manifest import fields_of
from pilothouse_runtime.core.settings import Optimize
from pilothouse_runtime.core.tensors import Signature, Tensor
from pilothouse_runtime.engine.compiled import Order, compiled_function
from pilothouse_runtime.engine.failures import first_cause, not_optimizable
from pilothouse_runtime.engine.likeness import copies, difference
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.optimizing import answers_of_the_file, compared, unfit
from pilothouse_runtime.engine.scripted import NotStraightError
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


class Took(NamedTuple):
    """Seconds of a run: on the clock, and of the CPUs, which is what ways are compared by: others may use these too."""

    wall: float
    cpu: float


_NEVER: Final = Took(float("inf"), float("inf"))


class Graph(NamedTuple):
    """A model as a graph.

    Attributes:
        constants: by position, what placeholders that are no tensors must be.
        names: of its leaves, where it returns a dict; else ().
        checked: sizes that do not go together are refused before it is run.
    """

    module: fx.GraphModule
    constants: Mapping[int, Any]
    names: tuple[str, ...]
    checked: bool


class GraphModel(TorchModel):
    """A model whose `function` may be another than the file has, once it is settled.

    Args:
        path: of its file.

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
        path: Path,
        max_rows: int | None = None,
        options: Options = PLAIN,
    ) -> None:
        super().__init__(signature, device, weights, max_rows)
        self.function = function
        self._path = path
        self._scratch = options.scratch
        self._optimize = options.optimize
        self.may_fuse = self.device == "cpu" and not options.gradients
        self.way = AS_IT_IS

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the way that was chosen."""
        return self.function(*inputs)

    @abstractmethod
    def ways(self) -> Iterator[Way]:
        """Yield other ways to run the model, those that promise most first. What was taken for it is let go."""

    def settle(self, inputs: Sequence[Tensor]) -> float | None:
        """See `LoadedModel`.

        A model that has a memory, throws dice, or does not take made-up numbers cannot be compared: it is left as it
        is.
        """
        if self._optimize is not Optimize.NONE:
            return self._optimized(inputs)
        try:
            want, _ = self._measured(inputs)
            answers, before = self._measured(inputs)
            obstacle = "it answers otherwise each time" if difference(answers, want) else ""
        except RequestError as error:
            obstacle = f"it does not take made-up inputs ({error.message})"
        if obstacle:
            return None
        best = before if self.keeps else _NEVER
        for name, make in self.ways():
            if best.cpu < _CLEARLY * before.cpu:
                break
            function, flaw, took = self.function, "", _NEVER
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
            if flaw or took.cpu > _FASTER * best.cpu:
                self.function = function
            else:
                self.way, best = name, took
        if self.way == AS_IT_IS:
            return None
        log.info("the model is run %s", self.way, extra={"seconds": round(best.wall, 6)})
        return best.wall

    def _optimized(self, inputs: Sequence[Tensor]) -> float:
        """Run as the user asked for from now on, if that changes the answers by no more than is stated."""
        wanted = self._optimize
        want = answers_of_the_file(wanted, lambda: self._measured(inputs)[0])
        try:
            function = self.optimized(wanted)
            if function is None:
                raise not_optimizable(wanted, "it has no layers that this can be done with")
            self.function = function
            self._measured(inputs)
            answers, took = self._measured(inputs)
        except (RequestError, NotStraightError) as error:
            raise unfit(wanted, error) from error
        off = compared(wanted, answers, want)
        self.way = wanted
        log.info(
            "the model is run as %s, %.3f %% off", wanted, 100 * off, extra={"seconds": round(took.wall, 6)}
        )
        return took.wall

    @abstractmethod
    def optimized(self, wanted: Optimize) -> Function | None:
        """Return the model as the user wants it, or None where it has no layers that this can be done with.

        Raises:
            NotStraightError: its graph is not known.
        """

    @abstractmethod
    def graph(self) -> Graph:
        """Return the model as a graph. What was kept for it is let go.

        Raises:
            NotStraightError: its graph is not known.
        """

    def compiled(self) -> Function:
        """Return the model compiled for this CPU.

        Raises:
            LoadError: OptimizationFailed; see `compiled_function`.
        """
        if self._scratch is None:
            raise not_optimizable(Optimize.COMPILE, "there is no folder to compile in")
        inputs = self.signature.inputs if self.signature else ()
        outputs = self.signature.outputs if self.signature else ()
        signature = {
            "inputs": [fields_of(spec) for spec in inputs],
            "outputs": [fields_of(spec) for spec in outputs],
        }
        order = Order(str(self._path.resolve()), self.format, json.dumps(signature))
        return compiled_function(order, self._scratch)

    def _tried(self, inputs: Sequence[Tensor], want: Sequence[Tensor]) -> tuple[str, Took]:
        """Return what is wrong with the answers, or "", and what a run takes at best, once it has compiled."""
        flaw = difference(self._measured(inputs)[0], want)
        best, until, runs = _NEVER, time.perf_counter() + _BUDGET, 0
        while not flaw and runs < _MOST_RUNS and (not runs or time.perf_counter() < until):
            answers, took = self._measured(inputs)
            flaw, runs = difference(answers, want), runs + 1
            best = Took(*map(min, zip(best, took, strict=True)))
        return flaw, best

    def _measured(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Took]:
        """Return the answers of a run, and what it took."""
        given = copies(inputs)
        started, busy = time.perf_counter(), time.process_time()
        answers = self.run(given)
        took = Took(time.perf_counter() - started, time.process_time() - busy)
        return copies(answers), took
