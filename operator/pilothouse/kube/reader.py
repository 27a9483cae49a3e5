"""Looks at the cluster through the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pilothouse.api import names
from pilothouse.control.errors import GoneError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.seen import Json, Key, Seen

# Kubernetes, "Labels and Selectors": the API server answers 400 to a selector with a longer value.
_LABEL_VALUE_LIMIT = 63


class KubeReader:
    """Fulfils `pilothouse.control.ports.Reader`. Every reading is consistent with all writes before it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def observe(self, key: Key) -> Seen | None:
        """Return the ModelDeployment and its children as they are now, or None where there is none.

        Raises:
            PilothouseError: as `Client.request` does; BlockedError(Forbidden) where a right is missing.
        """
        body, deployments, services, revisions, pods = await asyncio.gather(
            self._body(key),
            self._children("Deployment", key),
            self._children("Service", key),
            self._children("ControllerRevision", key),
            self._children("Pod", key),
        )
        if body is None:
            return None
        return Seen(body, deployments, services, revisions, pods)

    async def keys(self, namespaces: Sequence[str]) -> list[Key]:
        """Return all ModelDeployments there are in these namespaces, or in the whole cluster where none is named.

        Raises:
            GoneError: the CustomResourceDefinition is not installed.
            PilothouseError: as `Client.request` does.
        """
        where: Sequence[str | None] = namespaces or [None]
        lists = [await self._client.list_all(paths.collection(names.KIND, namespace)) for namespace in where]
        return [Key(i["metadata"]["namespace"], i["metadata"]["name"]) for items in lists for i in items]

    async def _body(self, key: Key) -> Json | None:
        try:
            return await self._client.get(paths.item(names.KIND, key.namespace, key.name))
        except GoneError:
            return None

    async def _children(self, kind: str, key: Key) -> tuple[Json, ...]:
        if len(key.name) > _LABEL_VALUE_LIMIT:
            return ()  # no object can carry such a label
        selector = names.selector_text(names.model_selector(key.name))
        return tuple(
            await self._client.list_all(paths.collection(kind, key.namespace), [("labelSelector", selector)])
        )
