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

        Raises:
            GoneError: that very object is gone, even where another one has its name by now.
            PilothouseError: as `Client.request` does.
        """
        meta = body["metadata"]
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "status": status,
        }
        path = paths.item(names.KIND, meta["namespace"], meta["name"]) + "/status"
        await self._client.apply(path, manifest, FIELD_MANAGER)
