"""Which ModelDeployment an event is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilothouse.api import names
from pilothouse.plan.seen import Key


def key_of(body: Mapping[str, Any]) -> Key | None:
    """Return the key of the ModelDeployment that an object is or belongs to, or None where it is none of ours.

    Children are told by their labels and not by their owner: whoever labels an object as ours wants it looked at,
    and the pass that follows checks the owner.
    """
    meta = body["metadata"]
    if (body.get("apiVersion"), body.get("kind")) == (names.API_VERSION, names.KIND):
        return Key(meta["namespace"], meta["name"])
    labels = meta.get("labels") or {}
    model = labels.get(names.LABEL_MODEL)
    if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY or not model:
        return None
    return Key(meta["namespace"], model)
