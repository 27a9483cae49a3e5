"""Writes the status of a ModelDeployment."""

from __future__ import annotations

from typing import Final

from pilothouse.api import names
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.seen import Json

# Not the manager of the children: what one manager no longer sends is removed.
FIELD_MANAGER: Final = "pilothouse-status"


class KubeStatusWriter:
    """Fulfils `pilothouse.control.ports.StatusWriter`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def write(self, body: Json, status: Json) -> None:
        """Make `status` the whole status of the ModelDeployment `body`.

        The version that was looked at goes along: a status is never written onto an object that somebody has
        changed since, nor onto another one that has its name by now. (Of a uid alone an old API server takes no
        notice here.)

        Raises:
            ConflictError: the object has changed, or is another one.
            GoneError: there is no such object any more.
            PilothouseError: as `Client.request` does.
        """
        meta = body["metadata"]
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {field: meta[field] for field in ("name", "namespace", "resourceVersion")},
            "status": status,
        }
        path = paths.item(names.KIND, meta["namespace"], meta["name"]) + "/status"
        await self._client.apply(path, manifest, FIELD_MANAGER)
