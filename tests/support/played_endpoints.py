"""Plays the endpoints controller on a `MemoryCluster`: an EndpointSlice for each Service (discovery.k8s.io/v1)."""

from __future__ import annotations

from pilothouse.plan.seen import Json
from tests.support.memory_cluster import MemoryCluster, Ref
from tests.support.played_pods import is_ready

_SERVICE_NAME = "kubernetes.io/service-name"


class PlayedEndpoints:
    """Writes down which pods each Service selects.

    Attributes:
        away: it writes nothing for as long as this is set, as a controller manager does that is late or gone.
    """

    def __init__(self, cluster: MemoryCluster) -> None:
        self.cluster = cluster
        self.away = False

    def step(self) -> None:
        """Bring every EndpointSlice up to date; those of Services that are gone are the garbage collector's."""
        if self.away:
            return
        for ref, service in list(self.cluster.objects.items()):
            if ref.kind == "Service":
                self._write(ref, service)

    def _write(self, service_ref: Ref, service: Json) -> None:
        ref = Ref("EndpointSlice", service_ref.namespace, f"{service_ref.name}-slice")
        meta = service["metadata"]
        owner = {"apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"]}
        live = self.cluster.objects.get(ref)
        if live is not None and live["metadata"]["ownerReferences"][0]["uid"] != meta["uid"]:
            self.cluster.delete(ref)  # a Service of the same name, made anew, has slices of its own
            live = None
        wanted = [
            _endpoint(pod)
            for pod_ref, pod in sorted(self.cluster.objects.items())
            if pod_ref.kind == "Pod"
            and pod_ref.namespace == ref.namespace
            and service["spec"]["selector"].items() <= pod["metadata"].get("labels", {}).items()
            and "deletionTimestamp" not in pod["metadata"]
        ]
        if live is None:
            self.cluster.create(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": ref.name,
                        "namespace": ref.namespace,
                        "labels": {**meta.get("labels", {}), _SERVICE_NAME: meta["name"]},
                        "ownerReferences": [{**owner, "controller": True}],
                    },
                    "addressType": "IPv4",
                    "endpoints": wanted,
                }
            )
        elif live["endpoints"] != wanted:
            self.cluster.edit(ref, lambda body: body.update(endpoints=wanted))


def _endpoint(pod: Json) -> Json:
    meta = pod["metadata"]
    return {
        "addresses": [meta.get("annotations", {}).get("address", "10.244.0.1")],
        "conditions": {"ready": is_ready(pod)},
        "targetRef": {
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
    }
