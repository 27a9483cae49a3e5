"""What makes a revision, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pilothouse.api import quantities
from pilothouse.api.names import HASH_LENGTH
from pilothouse.api.spec import ModelDeploymentSpec


def canonical(spec: ModelDeploymentSpec) -> dict[str, Any]:
    """Return the part of `spec` that decides what a pod answers, in the one form that is hashed.

    Whatever equals its default is left out: a default written out is the same revision as one left out, and a
    field that a later release adds changes no hash. Quantities are written in one way ("1000m" is "1"). Maps have
    no order; the order of lists counts.
    """
    content = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include={"model", "runtime"})
    resources = content.get("runtime", {}).get("resources", {})
    for kind, amounts in resources.items():
        resources[kind] = {name: quantities.canonical(text) for name, text in amounts.items()}
    return content


def revision_hash(spec: ModelDeploymentSpec) -> str:
    """Return the hash of the revision that `spec` asks for: 10 lower case hex digits.

    Never change how it is made: every model that runs would get a new revision.
    """
    text = json.dumps(canonical(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
