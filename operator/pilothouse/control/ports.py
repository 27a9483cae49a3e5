"""What the loop needs from the outside. `kube/` and `edge/` fulfil these; tests use an in-memory cluster.

Every method may raise the errors of `pilothouse.control.errors`, and no others for what goes wrong outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pilothouse.plan.actions import Action, Notice
from pilothouse.plan.samples import Ask, Drifted, Samples, Source
from pilothouse.plan.seen import Json, Key, Seen
from pilothouse_runtime.contract import PodReport


class Reader(Protocol):
    """Looks at the cluster."""

    async def observe(self, key: Key) -> Seen | None:
        """Return the ModelDeployment and its children as they are now, or None where there is none."""


class Sampler(Protocol):
    """Measures the requests of revisions."""

    async def sample(self, key: Key, ask: Ask) -> Samples:
        """Return what came of requests since `ask.since`. Never raises: what cannot be had is left out.

        Nothing is used up by asking: the same question later gives the same and what came since.
        """

    def forget(self, key: Key) -> None:
        """The ModelDeployment is gone, or nothing is measured any more: drop what was kept about it."""


class Listener(Protocol):
    """Asks runtime pods how far they are, and how far their requests are from what they should be."""

    async def listen(self, pods: Sequence[Source]) -> Mapping[str, PodReport]:
        """Return what pods say of themselves, by uid. Never raises: who does not answer, or not so, is left out."""

    async def drift(self, pods: Sequence[Source]) -> Mapping[str, Drifted]:
        """Return what pods' metrics say of drift, by uid. Never raises: who says nothing is left out."""


class Applier(Protocol):
    """The one writer of children."""

    async def execute(self, action: Action) -> None:
        """Carry out one action.

        Raises:
            BlockedError: NameTaken where a new child's name belongs to somebody else, QuotaExceeded or the
                API server's own reason where it refuses the object for good.
        """


class StatusWriter(Protocol):
    """The one writer of status."""

    async def write(self, body: Json, status: Json) -> None:
        """Make `status` the whole status of the ModelDeployment `body`, if it is still the version that was seen."""


class Recorder(Protocol):
    """Writes Kubernetes Events."""

    async def emit(self, body: Json, notice: Notice) -> None:
        """Record a notice about `body`. Never raises: an Event is a courtesy."""


class Telemetry(Protocol):
    """Counts what the loop does."""

    def reconciled(self, outcome: str, seconds: float) -> None:
        """One pass ended: outcome is ok, invalid, blocked, transient, conflict, gone or error."""

    def queued(self, depth: int) -> None:
        """So many keys wait now."""

    def wrote(self, kind: str) -> None:
        """One write to the API server was asked for: kind is apply, delete, label, status or event."""

    def forget(self, key: Key) -> None:
        """The ModelDeployment is gone: drop what was kept about it."""

    def observed(self, key: Key, ready: bool, available: bool) -> None:
        """What the last pass found of one ModelDeployment."""
