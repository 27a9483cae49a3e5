"""Asks which API versions a cluster serves, of the kinds for which Kubernetes 1.20 and the newest have none in common.

API discovery: GET /apis/<group> answers with a metav1.APIGroup (Kubernetes API Concepts, "API Discovery").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pilothouse.api.conditions import Reason
from pilothouse.control.errors import BlockedError, GoneError
from pilothouse.kube.client import Client

# The better one first. What we use has the same form in both. (Kubernetes, "Deprecated API Migration Guide":
# policy/v1 and discovery.k8s.io/v1 since 1.21, their v1beta1 until 1.24; autoscaling/v2 since 1.23, autoscaling/v2beta2
# until 1.25.)
_POLICY: Final = ("policy/v1", "policy/v1beta1")
_AUTOSCALING: Final = ("autoscaling/v2", "autoscaling/v2beta2")
_DISCOVERY: Final = ("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1")


@dataclass(frozen=True)
class Served:
    """API versions of the kinds that clusters serve in different ones: budgets, autoscalers, EndpointSlices."""

    budget_api: str
    autoscaler_api: str
    slice_api: str


async def discover(client: Client) -> Served:
    """Ask the API server what it serves.

    Raises:
        BlockedError: it serves none of the versions that we know.
        PilothouseError: as `Client.request` does.
    """
    return Served(
        await _first(client, _POLICY), await _first(client, _AUTOSCALING), await _first(client, _DISCOVERY)
    )


async def _first(client: Client, wanted: tuple[str, ...]) -> str:
    group = wanted[0].partition("/")[0]
    try:
        answer = await client.get(f"/apis/{group}")
    except GoneError:
        answer = {}
    served = {version["groupVersion"] for version in answer.get("versions", ())}
    for version in wanted:
        if version in served:
            return version
    raise BlockedError(
        Reason.FORBIDDEN,
        f"the API server serves none of {', '.join(wanted)}, only {', '.join(sorted(served)) or 'nothing'} of that "
        "group; Pilothouse needs Kubernetes 1.20 or newer",
    )
