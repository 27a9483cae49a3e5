"""What the plan may ask to be done to the cluster, and what it tells people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilothouse.plan.seen import Json


@dataclass(frozen=True)
class Apply:
    """Server-side apply `manifest`: only fields we own, ownerReferences included.

    `new` says that no object of ours had this name when the cluster was looked at: whoever carries
    this out must make sure that it does not take over somebody else's.
    """

    manifest: Json
    new: bool


@dataclass(frozen=True)
class Delete:
    """Delete the child that has this name and this uid; gone already is well enough."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class Label:
    """Set one label of the pod that has this name and this uid; gone already is well enough.

    The only thing that is ever changed about a pod: whether it takes part in a mix of revisions.
    """

    namespace: str
    name: str
    uid: str
    label: str
    value: str


Action = Apply | Delete | Label


@dataclass(frozen=True)
class Notice:
    """A Kubernetes Event to record about the ModelDeployment: only ever for a transition."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
