"""Revisions: what decides a pod's answers, kept in ControllerRevisions as StatefulSet keeps its own.

A ControllerRevision holds the part of the spec that made the revision and the pod template rendered from it.
The template is rendered once, when the revision is made, and never again: an operator upgrade that would
render it otherwise restarts no pod.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.api import names
from pilothouse.plan.seen import Json, Seen


@dataclass(frozen=True)
class Record:
    """What a ControllerRevision says of a revision."""

    name: str
    number: int
    model: Json
    template: Json

    @property
    def uri(self) -> str:
        return str(self.model["uri"])

    @property
    def version(self) -> str:
        return str(self.model.get("version", ""))

    @property
    def digest(self) -> str:
        return str(self.model.get("digest", ""))


def recorded(seen: Seen, name: str) -> Record | None:
    """Return what was recorded of the revision `name`, or None where there is no (readable) record."""
    live = seen.revision(name)
    if live is None:
        return None
    data = live.get("data") or {}
    if "model" not in data or "template" not in data:
        return None
    return Record(name=name, number=int(live["revision"]), model=data["model"], template=data["template"])


def manifest(owner: Json, record: Record) -> Json:
    """Return the ControllerRevision that keeps `record`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": child_metadata(owner, record.name, record.name),
        "revision": record.number,
        "data": {"model": record.model, "template": record.template},
    }


def child_metadata(owner: Json, name: str, revision: str | None) -> Json:
    """Return the metadata of a child of `owner`: its labels, and the owner that takes it along when it goes.

    `blockOwnerDeletion` is not set: it would need a right on the owner's finalizers, and holds nothing up that matters.
    """
    meta = owner["metadata"]
    return {
        "name": name,
        "namespace": meta["namespace"],
        "labels": names.child_labels(meta["name"], revision),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": meta["name"],
                "uid": meta["uid"],
                "controller": True,
            }
        ],
    }
