"""The init container that brings a model, or a data set, from where it is: it alone has the credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pilothouse.api.uris import is_fetched, redacted
from pilothouse.plan.claims import RUNTIME_GROUP
from pilothouse.plan.seen import Json
from pilothouse_runtime import contract

# What the serving container asks of the node is there anyway while this one runs; a GPU is of no use here.
_PASSED_ON = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True)
class Cache:
    """Where pods share models by their digest: a folder of each node, or a PersistentVolumeClaim of their namespace.

    Attributes:
        host_path: a folder that is there on each node and that anybody may write to; or "".
        claim: the name of a claim, which each namespace must have then; or "".
        most_bytes: that models may take there.
    """

    host_path: str = ""
    claim: str = ""
    most_bytes: int = 0

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return bool(self.host_path or self.claim)


NO_CACHE: Final = Cache()


@dataclass(frozen=True)
class Place:
    """Which container of a pod fetches, to which volume, and where the container that uses the file finds that."""

    container: str
    volume: str
    mount: str


MODEL_PLACE: Final = Place(contract.FETCH_CONTAINER, "fetched", contract.MODEL_MOUNT)
DRIFT_PLACE: Final = Place(contract.FETCH_DRIFT_CONTAINER, "fetched-drift", contract.DRIFT_MOUNT)


@dataclass(frozen=True)
class Fetching:
    """What is to be fetched for a pod, by whom, and with what.

    Attributes:
        digest: sha256:..., or None.
        secret: name of the Secret with credentials, or "".
        image: the runtime's.
        field: of the spec, under which its user wrote uri and digest.
    """

    uri: str
    digest: str | None
    secret: str
    image: str
    cache: Cache
    field: str
    place: Place = MODEL_PLACE

    @property
    def is_needed(self) -> bool:
        """Whether the container that uses the file does not get it itself."""
        return is_fetched(self.uri, with_secret=bool(self.secret), to_cache=self._cached)

    @property
    def _cached(self) -> bool:
        return self.cache.is_there and self.digest is not None

    @property
    def uri_within(self) -> str:
        """The uri by which the container that uses the file finds it."""
        return contract.FETCHED_PREFIX + redacted(self.uri) if self.is_needed else self.uri

    def added(self, pod: Json, init: Json) -> Json:
        """Return the spec of a pod with its one container, which gets to read what `init` brings before it starts.

        Args:
            pod: made by `pods.restricted_pod`.
            init: made by `pods.restricted_container`. It works after those that are there already.
        """
        if not self.is_needed:
            return pod
        [container] = pod["containers"]
        resources = _resources(container.get("resources", {}))
        init = init | {
            "command": list(contract.FETCH_COMMAND),
            "ports": [
                {"name": "progress", "containerPort": contract.HTTP_PORT, "protocol": "TCP"},
            ],
            "env": self._environment(),
            "volumeMounts": [*init["volumeMounts"], self._mount(contract.MODEL_MOUNT), *self._shared_mount()],
        }
        init |= {"resources": resources} if resources else {}
        init |= {"envFrom": [{"secretRef": {"name": self.secret}}]} if self.secret else {}
        mount = self._mount(self.place.mount) | {"readOnly": True}
        reader = container | {"volumeMounts": [*container["volumeMounts"], mount]}
        own = [{"name": self.place.volume, "emptyDir": {}}, *self._shared_volume()]
        volumes = [*pod["volumes"], *(volume for volume in own if volume not in pod["volumes"])]
        inits = [*pod.get("initContainers", ()), init]
        added = pod | {"initContainers": inits, "containers": [reader], "volumes": volumes}
        if self._cached and self.cache.claim:
            group: Json = {"fsGroup": RUNTIME_GROUP, "fsGroupChangePolicy": "OnRootMismatch"}
            added["securityContext"] = pod["securityContext"] | group
        return added

    def _mount(self, path: str) -> Json:
        return {"name": self.place.volume, "mountPath": path}

    def _environment(self) -> Sequence[Json]:
        values = {
            contract.ENV_FETCH_URI: self.uri,
            contract.ENV_FETCH_DIGEST: self.digest or "",
            contract.ENV_FETCH_FIELD: self.field,
        }
        if self._cached:
            values[contract.ENV_FETCH_CACHE] = contract.SHARED_MOUNT
            values[contract.ENV_FETCH_CACHE_BYTES] = str(self.cache.most_bytes)
        own: list[Json] = [{"name": name, "value": value} for name, value in values.items() if value]
        if self._cached and self.cache.host_path:
            namespace = {"fieldRef": {"fieldPath": "metadata.namespace"}}
            own.append({"name": contract.ENV_NAMESPACE, "valueFrom": namespace})
        return own

    def _shared_volume(self) -> list[Json]:
        if not self._cached:
            return []
        if self.cache.claim:
            return [{"name": "shared", "persistentVolumeClaim": {"claimName": self.cache.claim}}]
        return [{"name": "shared", "hostPath": {"path": self.cache.host_path, "type": "Directory"}}]

    def _shared_mount(self) -> list[Json]:
        if not self._cached:
            return []
        mount: Json = {"name": "shared", "mountPath": contract.SHARED_MOUNT}
        # Of a folder that all namespaces have in common each sees its own part: who knows a digest gets the model.
        own: Json = {} if self.cache.claim else {"subPathExpr": f"$({contract.ENV_NAMESPACE})"}
        return [mount | own]


def _resources(resources: Json) -> Json:
    kept = {
        kind: {name: amount for name, amount in amounts.items() if name in _PASSED_ON}
        for kind, amounts in resources.items()
    }
    return {kind: amounts for kind, amounts in kept.items() if amounts}
