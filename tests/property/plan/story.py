"""What stories of rollouts are made of. Each line reads as a sentence, so that a counterexample reads as a story."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pilothouse.api.conditions import Command
from pilothouse.plan.seen import Json
from tests.support.memory_cluster import Fault
from tests.support.played_pods import Fate, Kind
from tests.support.played_traffic import Temper
from tests.support.world import validated

# What a story's analyses and validations ask for, and how far from it good and bad revisions are.
MOST_ERRORS = 0.05
LEAST_ACCURACY = 0.9


class Said:
    """Something that is told as a sentence, by `str` and by hypothesis alike."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@dataclass(frozen=True)
class Stage(Said):
    """One step of a canary rollout."""

    weight: int | None
    seconds: int | None = None
    pause: bool = False

    def __str__(self) -> str:
        weight = "as before" if self.weight is None else f"{self.weight}%"
        if self.pause:
            return f"{weight} until promoted"
        return weight if self.seconds is None else f"{weight} for {self.seconds} s"

    @property
    def spec(self) -> Json:
        said: Json = {} if self.weight is None else {"weight": self.weight}
        if self.pause:
            said["pause"] = True
        elif self.seconds is not None:
            said["for"] = f"{self.seconds}s"
        return said


@dataclass(frozen=True)
class Way(Said):
    """How a new revision is to take over."""

    strategy: str = "RollingUpdate"
    stages: tuple[Stage, ...] = ()
    analysed: str | None = None  # what to do where an analysis is inconclusive; None: no analysis
    validation: bool = False
    surge: int | None = None
    by_hand: bool = False
    keeps_failed: bool = False

    def __str__(self) -> str:
        said = "a rolling update"
        if self.stages:
            said = "a canary of " + ", ".join(map(str, self.stages))
        elif self.strategy == "BlueGreen":
            said = "blue/green" + (", switched by hand" if self.by_hand else "")
        elif self.surge is not None:
            said += f" with surge {self.surge}"
        if self.analysed is not None:
            said += f", analysed (inconclusive: {self.analysed})"
        if self.validation:
            said += ", after a validation"
        return said + (", keeping the pods of a failure" if self.keeps_failed else "")

    @property
    def spec(self) -> Json:
        rollout: Json = {"strategy": self.strategy, "progressDeadline": "5m"}
        if self.stages:
            rollout["steps"] = [stage.spec for stage in self.stages]
        if self.analysed is not None:
            rollout["analysis"] = {
                "interval": "10s",
                "minRequests": 20,
                "maxErrorRate": f"{MOST_ERRORS:.0%}",
                "failureLimit": 2,
                "onInconclusive": self.analysed,
            }
        if self.validation:
            golden = "http://models/golden.npz"
            rollout["validation"] = {"uri": golden, "metric": "accuracy", "min": LEAST_ACCURACY}
        if self.surge is not None:
            rollout["surge"] = self.surge
        if self.by_hand:
            rollout["autoPromote"] = False
        if self.keeps_failed:
            rollout["onFailure"] = "Pause"
        return rollout


@dataclass(frozen=True)
class Nature(Said):
    """What a revision is like: what becomes of its pods and of its validation, and how it answers."""

    pods: Fate = field(default_factory=Fate)
    job: Fate = field(default_factory=lambda: validated(0.99))
    temper: Temper = field(default_factory=Temper)

    @property
    def answers_well(self) -> bool:
        return self.temper.errors <= MOST_ERRORS

    def __str__(self) -> str:
        said: list[str] = []
        if self.pods.kind is not Kind.READY:
            said.append(f"its pods: {told(self.pods)}")
        if self.job != validated(0.99):
            said.append(f"its validation: {told(self.job)}")
        if self.temper.errors:
            said.append(f"{self.temper.errors:.0%} of its answers are errors")
        return "; ".join(said) or "it is good"


def told(fate: Fate) -> str:
    """Return a fate in a few words."""
    last = fate.message.strip().splitlines()[-1:] or [""]
    return f"{fate.kind.value} {last[0]}".strip() + (f" after {fate.seconds:g} s" if fate.seconds else "")


@dataclass(frozen=True)
class Change(Said):
    """The user applies a spec; its revision will be of this nature, unless it serves already."""

    version: int
    replicas: int
    way: Way
    nature: Nature
    paused: bool = False

    def __str__(self) -> str:
        paused = ", paused" if self.paused else ""
        return (
            f"the user applies version {self.version} x {self.replicas}{paused} by {self.way} ({self.nature})"
        )

    @property
    def rest(self) -> Json:
        """The spec without its model."""
        return {"replicas": self.replicas, "rollout": self.way.spec, "paused": self.paused}


@dataclass(frozen=True)
class Scale(Said):
    """A HorizontalPodAutoscaler, or `kubectl scale`, sets spec.replicas."""

    replicas: int

    def __str__(self) -> str:
        return f"an autoscaler asks for {self.replicas} replicas"


@dataclass(frozen=True)
class Hold(Said):
    """The user sets spec.paused."""

    paused: bool

    def __str__(self) -> str:
        return "the user pauses the object" if self.paused else "the user lets the object go on"


class Whose(StrEnum):
    """Which revision somebody means."""

    TARGET = "the revision that the spec asks for"
    STABLE = "the stable revision"
    OTHER = "a revision of long ago"


@dataclass(frozen=True)
class Order(Said):
    """The user gives a command by annotation."""

    command: Command
    whose: Whose
    token: str

    def __str__(self) -> str:
        token = f" ({self.token})" if self.token else ""
        return f"the user says {self.command}{token} of {self.whose}"


@dataclass(frozen=True)
class Work(Said):
    """The operator and the nodes make some moves; the nodes move at most so many pods each time."""

    moves: int
    pods: int
    pause: int

    def __str__(self) -> str:
        slow = f" with {self.pods} pods a step" if self.pods < 4 else ""
        return f"everybody makes {self.moves} moves, {self.pause} s apart{slow}"


@dataclass(frozen=True)
class Away(Said):
    """The operator is down; nodes and users go on."""

    seconds: int

    def __str__(self) -> str:
        return f"the operator is away for {self.seconds} s"


@dataclass(frozen=True)
class Break(Said):
    """The operator's n-th call from now fails, and perhaps it is started anew right now."""

    call: int
    fault: Fault
    restart: bool

    def __str__(self) -> str:
        restart = "the operator is started anew, and " if self.restart else ""
        error = type(self.fault.error).__name__
        return f"{restart}the {self.fault.lost} of its call {self.call} from now is lost ({error})"


@dataclass(frozen=True)
class Turn(Said):
    """Pods of a revision change for the better or the worse."""

    whose: Whose
    fate: Fate

    def __str__(self) -> str:
        return f"from now on, pods of {self.whose}: {told(self.fate)}"


@dataclass(frozen=True)
class Evict(Said):
    """A node goes, and takes pods of a revision along."""

    whose: Whose
    pods: int

    def __str__(self) -> str:
        return f"a node goes, with {self.pods} pods of {self.whose}"


@dataclass(frozen=True)
class Remove(Said):
    """Somebody deletes a child of a revision by hand; of the model as a whole where the kind is "the Service"."""

    kind: str
    whose: Whose | None

    def __str__(self) -> str:
        return f"somebody deletes the {self.kind} of {self.whose or 'the model'}"


@dataclass(frozen=True)
class Rush(Said):
    """The users send so many requests a second from now on."""

    rate: float

    def __str__(self) -> str:
        return f"from now on, {self.rate:g} requests a second"


@dataclass(frozen=True)
class Silence(Said):
    """The pods of a revision can, or cannot, be asked for their metrics."""

    whose: Whose
    silent: bool

    def __str__(self) -> str:
        return f"pods of {self.whose} {'give no' if self.silent else 'give their'} metrics"


@dataclass(frozen=True)
class Eve(Said):
    """Everybody works until requests begin to move to another revision, or for a while."""

    def __str__(self) -> str:
        return "everybody works until requests begin to move"


@dataclass(frozen=True)
class Late(Said):
    """The controller that tells nodes which pods are behind a Service stands still, or goes on."""

    stands: bool

    def __str__(self) -> str:
        return "nodes are told nothing new" if self.stands else "nodes are told again what is new"


Line = (
    Change | Scale | Hold | Order | Work | Away | Break | Turn | Evict | Remove | Rush | Silence | Eve | Late
)
