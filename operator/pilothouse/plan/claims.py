"""PersistentVolumeClaims in a pod: which one a uri names, and how further ones are mounted."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from pilothouse.plan.seen import Json

RUNTIME_GROUP: Final = 65532  # of the runtime image's user: what it may write on a volume belongs to it


def claim_of(uri: str) -> str | None:
    """Return the PersistentVolumeClaim that a pvc:// uri names, or None for any other."""
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme == "pvc" else None


def with_claim(pod: Json, claim: str, volume: str, mount: str, *, writable: bool) -> Json:
    """Return the spec of a pod with a claim mounted in its one container.

    A claim that is there already is not named a second time, for a kubelet may wait forever to mount a volume twice.

    Args:
        volume: how a volume for it is called, where it needs one.
        writable: as the user that the container is; else it is only read.
    """
    [container] = pod["containers"]
    there = (
        v["name"] for v in pod["volumes"] if v.get("persistentVolumeClaim", {}).get("claimName") == claim
    )
    name = None if writable else next(there, None)
    added: Json = {"claimName": claim} | ({} if writable else {"readOnly": True})
    volumes = [] if name else [{"name": volume, "persistentVolumeClaim": added}]
    mounted: Json = {"name": name or volume, "mountPath": mount} | ({} if writable else {"readOnly": True})
    changed = pod | {
        "containers": [container | {"volumeMounts": [*container["volumeMounts"], mounted]}],
        "volumes": [*pod["volumes"], *volumes],
    }
    if writable:
        changed["securityContext"] = pod["securityContext"] | {"fsGroup": RUNTIME_GROUP}
    return changed
