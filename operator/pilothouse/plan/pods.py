"""What all pods have in common: as few rights as will do, a place to write, and somebody who fetches what they need."""

from __future__ import annotations

from pydantic import BaseModel

from pilothouse.api.runtime import Runtime
from pilothouse.plan.fetching import Fetching
from pilothouse.plan.seen import Json
from pilothouse_runtime import contract


def restricted_pod(runtime: Runtime, container: Json, claim: str | None) -> Json:
    """Return the spec of a pod of one container, placed as `runtime` says, with as few rights as will do.

    Args:
        runtime: where the pod may run, and who it is.
        container: made by `restricted_container` for the same claim.
        claim: PersistentVolumeClaim with a file to read, or None.
    """
    pod: Json = {
        "automountServiceAccountToken": False,
        # One environment variable for each Service of the namespace would make a pod's environment depend on them.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": runtime.termination_grace_period_seconds,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": _volumes(claim),
    }
    optional: Json = {
        "nodeSelector": runtime.node_selector,
        "tolerations": [as_json(t) for t in runtime.tolerations],
        "affinity": runtime.affinity,
        "serviceAccountName": runtime.service_account_name,
        "imagePullSecrets": [as_json(s) for s in runtime.image_pull_secrets],
    }
    return pod | {field: value for field, value in optional.items() if value}


def with_fetching(pod: Json, fetching: Fetching) -> Json:
    """Return the spec of a pod of one container, for which an init container fetches what is to be fetched, if so."""
    return fetching.added(pod, restricted_container(fetching.place.container, fetching.image, None))


def restricted_container(name: str, image: str, claim: str | None) -> Json:
    """Return a container of the runtime's image that may write its caches and its last words, and nothing else."""
    return {
        "name": name,
        "image": image,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Where a process dies without last words (killed, a broken image), its last log lines are the next best.
        "terminationMessagePath": contract.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(claim),
    }


def _volumes(claim: str | None) -> list[Json]:
    volumes: list[Json] = [{"name": "tmp", "emptyDir": {}}, {"name": "cache", "emptyDir": {}}]
    if claim:
        volumes.append({"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    return volumes


def _mounts(claim: str | None) -> list[Json]:
    mounts: list[Json] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir, shared with nobody
        {"name": "cache", "mountPath": contract.CACHE_DIR},
    ]
    if claim:
        mounts.append({"name": "model", "mountPath": contract.PVC_MOUNT, "readOnly": True})
    return mounts


def as_json(part: BaseModel) -> Json:
    """Return a part of the spec as it is written, without what is left at its default."""
    return part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
