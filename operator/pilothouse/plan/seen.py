"""What one look at the cluster shows of a ModelDeployment and everything that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

# Objects are kept as the API server sent them (camelCase, plain JSON).
Json = dict[str, Any]


class Key(NamedTuple):
    """Which ModelDeployment: all that an event carries into the queue."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Away:
    """A time in which no operator looked: it did not run, or the API server did not answer."""

    since: datetime
    until: datetime

    def seconds_from(self, moment: datetime) -> float:
        """How much of it came after a moment."""
        return max((self.until - max(self.since, moment)).total_seconds(), 0.0)


@dataclass(frozen=True)
class Seen:
    """One consistent-enough reading of the cluster for one key.

    Children are found by the model label, in the model's namespace, whoever owns them; `owned` says
    which of them are this object's (and not those of an older object of the same name). `pods` holds those of
    Deployments (which carry the revision label) and those of Jobs (which carry the validation label). `budgets` are
    PodDisruptionBudgets, `autoscalers` HorizontalPodAutoscalers, `slices` the EndpointSlices that Kubernetes writes of
    the Services (they carry the labels of theirs). `away` is when last no operator could look.
    """

    body: Json
    deployments: tuple[Json, ...] = ()
    services: tuple[Json, ...] = ()
    revisions: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    jobs: tuple[Json, ...] = ()
    budgets: tuple[Json, ...] = ()
    autoscalers: tuple[Json, ...] = ()
    slices: tuple[Json, ...] = ()
    away: Away | None = field(default=None, kw_only=True)

    @property
    def key(self) -> Key:
        return Key(self.body["metadata"]["namespace"], self.body["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.body["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.body["metadata"]["generation"])

    def owned(self, child: Json) -> bool:
        """Whether this ModelDeployment is the controller of `child`."""
        return controller_uid(child) == self.uid

    def deployment(self, name: str) -> Json | None:
        return self._own(self.deployments, name)

    def service(self, name: str) -> Json | None:
        return self._own(self.services, name)

    def revision(self, name: str) -> Json | None:
        return self._own(self.revisions, name)

    def job(self, name: str) -> Json | None:
        return self._own(self.jobs, name)

    def budget(self, name: str) -> Json | None:
        return self._own(self.budgets, name)

    def autoscaler(self, name: str) -> Json | None:
        return self._own(self.autoscalers, name)

    def _own(self, children: tuple[Json, ...], name: str) -> Json | None:
        return next((c for c in children if c["metadata"]["name"] == name and self.owned(c)), None)


def controller_uid(child: Json) -> str | None:
    """Return the uid of the owner that controls `child`, or None where nobody does."""
    for owner in child["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            return str(owner["uid"])
    return None


def is_ready(pod: Json) -> bool:
    """Whether the kubelet says that a pod is Ready."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
