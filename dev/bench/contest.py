"""One model's benchmark: choose each peer's settings, then measure those that matter in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dev.bench import choosing, environments, subjects
from dev.bench.checks import Questions
from dev.bench.figures import Figure
from dev.bench.measuring import Durations, measure
from dev.bench.servers import Setting
from dev.bench.settings import Peer

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        loads: numbers of connections.
        choice, rounds_of: durations of the choice of settings, and of each round.
        rounds: how often what was chosen is measured, one after the other.
        most: settings of peers that are measured in rounds, under each load.
        quick: only the settings that are likeliest to be the best.
    """

    loads: Sequence[int]
    choice: Durations
    rounds_of: Durations
    rounds: int
    most: int
    quick: bool


class Contest:
    """All that is run for one model."""

    def __init__(self, model: str, folder: Path, plan: Plan, say: Say) -> None:
        self._model = model
        self._folder = folder
        self._plan = plan
        self._say = say
        self._questions = Questions.load(folder / f"{model}.npz")

    @property
    def weights(self) -> int:
        """Bytes of the model's weights."""
        return self._questions.weights

    def run(self, peers: Sequence[Peer]) -> tuple[Figure, ...]:
        """Return the figures of all subjects; a peer that fails is told and left out."""
        settings = [setting for peer in peers for setting in self._settings(peer)]
        tried = [
            figure
            for setting in settings
            for figure in self._measure(setting, self._plan.loads, self._plan.choice)
        ]
        own = subjects.ours(self._model, self._folder)
        wanted: dict[str, tuple[Setting, list[int]]] = {own.name: (own, list(self._plan.loads))}
        if self._model == "small":
            bound = subjects.bound(self._folder)
            wanted[bound.name] = (bound, list(self._plan.loads))
        by_name = {setting.name: setting for setting in settings}
        for clients in self._plan.loads:
            for figure in choosing.contenders(tried, clients, self._plan.most):
                wanted.setdefault(figure.name, (by_name[figure.name], []))[1].append(clients)
        rounds = self.rounds(list(wanted.values()), self._plan.rounds)
        others = [] if self._plan.quick else subjects.variants(self._model, self._folder)
        for setting in others:
            tried += self._measure(setting, self._plan.loads, self._plan.choice)
        return (*rounds, *tried)

    def rounds(self, wanted: Sequence[tuple[Setting, list[int]]], rounds: int) -> tuple[Figure, ...]:
        """Measure settings one after the other, over and over, and join what belongs together."""
        figures: list[Figure] = []
        for number in range(rounds):
            self._say(f"{self._model}: round {number + 1} of {rounds}")
            for setting, loads in wanted:
                figures += self._measure(setting, loads, self._plan.rounds_of)
        return tuple(replace(figure, chosen=True) for figure in choosing.together(figures))

    def features(self, loads: list[int]) -> tuple[Figure, ...]:
        """Measure our server with one feature off at a time."""
        self._say("what each feature costs")
        wanted = [(setting, loads) for setting in subjects.features(self._folder)]
        return self.rounds(wanted, self._plan.rounds)

    def _settings(self, peer: Peer) -> list[Setting]:
        try:
            environment = environments.ensure(peer.name, self._say)
        except (environments.EnvironmentFailedError, OSError) as error:
            self._say(f"{peer.title} is left out: {error}")
            return []
        found = peer.settings(self._model, self._folder, environment)
        return [setting for setting in found if setting.quick or not self._plan.quick]

    def _measure(self, setting: Setting, loads: Sequence[int], durations: Durations) -> list[Figure]:
        figures = measure(setting, self._questions, loads, durations)
        told = "  ".join(
            f"{one.connections}: {one.cause}"
            if one.problem
            else f"{one.connections}: {one.rate:,.0f}/s p99 {one.p99:,.2f} ms"
            for one in figures
        )
        self._say(f"  {self._model}  {setting.name}  {told}")
        return figures
