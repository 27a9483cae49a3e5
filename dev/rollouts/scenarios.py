"""The rollouts that are recorded: what serves first, what is done then, and when all is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from dev.rollouts.recording import Json
from pilothouse.api.conditions import Phase

GOOD: Final = "digits-cnn.pt2"
BAD: Final = "digits-broken.pt"
_QUICK: Final[Json] = {"scaleDownDelay": "10s", "progressDeadline": "3m"}
_STEPS: Final = [{"weight": 20, "for": "20s"}, {"weight": 50, "for": "20s"}]
_ANALYSIS: Final[Json] = {"interval": "5s", "minRequests": 20, "maxErrorRate": "1%", "failureLimit": 2}


class Stage(Protocol):
    """What a scenario does its acts with."""

    def apply(self, version: str, file: str) -> None:
        """Ask for a version of the model."""

    def command(self, name: str) -> None:
        """Give a command that is meant for the revision that is rolled out."""

    def until(self, *phases: Phase) -> None:
        """Wait until the rollout that the spec asks for is in one of these phases."""

    def settle(self) -> None:
        """Wait until there are no pods but those that serve, and all of these are ready."""

    def rest(self, seconds: float) -> None:
        """Let time go by."""


@dataclass(frozen=True)
class Scenario:
    """One rollout to record.

    Attributes:
        name: of its files.
        rollout: spec.rollout.
        acts: what happens once version 1 serves.
    """

    name: str
    title: str
    replicas: int
    rollout: Json
    acts: Callable[[Stage], None]


def _replaced(stage: Stage) -> None:
    stage.apply("2", GOOD)
    stage.until(Phase.COMPLETE)
    stage.settle()


def _broken(stage: Stage) -> None:
    stage.apply("2", BAD)
    stage.until(Phase.FAILED)
    stage.settle()


def _switched_and_back(stage: Stage) -> None:
    stage.apply("2", GOOD)
    stage.until(Phase.AWAITING)
    stage.rest(8)
    stage.command("promote")
    stage.until(Phase.COMPLETE)
    stage.rest(8)
    stage.apply("1", "digits-mlp.pt")
    stage.until(Phase.COMPLETE)
    stage.settle()


SCENARIOS: Final = (
    Scenario("rolling-update", "RollingUpdate", 3, {"strategy": "RollingUpdate", **_QUICK}, _replaced),
    Scenario(
        "surge-0",
        "RollingUpdate with surge: 0, on a cluster without room",
        3,
        {"strategy": "RollingUpdate", "surge": 0, **_QUICK},
        _replaced,
    ),
    Scenario(
        "canary",
        "Canary in steps of 20 % and 50 %, promoted by its analysis",
        4,
        {"strategy": "Canary", "steps": _STEPS, "analysis": _ANALYSIS, **_QUICK},
        _replaced,
    ),
    Scenario(
        "canary-aborted",
        "Canary of a version that fails one request in four, rolled back by its analysis",
        4,
        {"strategy": "Canary", "steps": _STEPS, "analysis": _ANALYSIS, **_QUICK},
        _broken,
    ),
    Scenario(
        "blue-green",
        "BlueGreen with autoPromote: false, promoted by hand, and the way back",
        3,
        {"strategy": "BlueGreen", "autoPromote": False, "scaleDownDelay": "30s", "progressDeadline": "3m"},
        _switched_and_back,
    ),
)
