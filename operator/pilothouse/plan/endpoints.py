"""Whom requests can reach: what the endpoints controller has made of the Services and of the pods that they select.

A selector is a wish, and a pod's readiness is its own word. Nodes follow neither: they follow the EndpointSlices
(discovery.k8s.io) that a controller of Kubernetes writes from both, in its own time. On a busy cluster that may be
seconds later. Who moves requests to pods that the controller has not seen ready, or ends pods that it has not yet
crossed out, has them refused. So both are looked up here.
"""

from __future__ import annotations

from pilothouse.api.names import LABEL_REVISION
from pilothouse.plan import routing
from pilothouse.plan.seen import Json, Seen, controller_uid, is_ready


def named(seen: Seen, service: str) -> frozenset[str]:
    """Return the uids of the pods that the EndpointSlices of a Service name as ready; none where it is not ours."""
    live = seen.service(service)
    if live is None:
        return frozenset()
    return frozenset(
        endpoint["targetRef"]["uid"]
        for piece in seen.slices
        if controller_uid(piece) == live["metadata"]["uid"]
        for endpoint in piece.get("endpoints") or ()
        # A condition that is not there says yes (discovery.k8s.io, EndpointConditions).
        if "targetRef" in endpoint and (endpoint.get("conditions") or {}).get("ready") is not False
    )


def follow(seen: Seen, to: routing.Route) -> bool:
    """Whether the model's own Service is seen to send requests by a route, and nodes are told so.

    Of each revision that has pods to send them to, at least one is named, and of other revisions none is.
    """
    if not routing.in_force(seen, to):
        return False
    reached = named(seen, seen.key.name)
    told = {_revision(pod) for pod in seen.pods if pod["metadata"]["uid"] in reached}
    able = {_revision(pod) for pod in seen.pods if routing.serves(pod, to) and _able(pod)}
    return able <= told <= set(to)


def holds(seen: Seen, revision: str) -> bool:
    """Whether nodes are still told to send requests of the model's users to pods of a revision."""
    reached = named(seen, seen.key.name)
    return any(pod["metadata"]["uid"] in reached and _revision(pod) == revision for pod in seen.pods)


def _able(pod: Json) -> bool:
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def _revision(pod: Json) -> str:
    return str(pod["metadata"].get("labels", {}).get(LABEL_REVISION, ""))
