"""Looks at the cluster through the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pilothouse.api import names
from pilothouse.control.errors import GoneError, TransientError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.kube.discovery import Served
from pilothouse.plan.seen import Json, Key, Seen

# Kubernetes, "Labels and Selectors": the API server answers 400 to a selector with a longer value.
_LABEL_VALUE_LIMIT = 63


class KubeReader:
    """Fulfils `pilothouse.control.ports.Reader`. Every reading is consistent with all writes before it.

    Attributes:
        served: the API versions in which it looks for what clusters serve in different ones.
    """

    def __init__(self, client: Client, served: Served) -> None:
        self.served = served
        self._client = client
        self._missing: set[str] = set()

    @property
    def outdated(self) -> str | None:
        """What the API server served when it was asked by discovery and serves no more, or None where all is well.

        It was upgraded, then; the operator must be started anew.
        """
        return (
            f"the API server no longer serves {', '.join(sorted(self._missing))}" if self._missing else None
        )

    async def observe(self, key: Key) -> Seen | None:
        """Return the ModelDeployment and its children as they are now, or None where there is none.

        Raises:
            TransientError: a kind of children is served no more; see `outdated`.
            PilothouseError: as `Client.request` does; BlockedError(Forbidden) where a right is missing.
        """
        kinds = (
            ("Deployment", None),
            ("Service", None),
            ("ControllerRevision", None),
            ("Pod", None),
            ("Job", None),
            ("PodDisruptionBudget", self.served.budget_api),
            ("HorizontalPodAutoscaler", self.served.autoscaler_api),
            ("EndpointSlice", self.served.slice_api),
        )
        body, children = await asyncio.gather(
            self._body(key),
            asyncio.gather(*(self._children(kind, key, version) for kind, version in kinds)),
        )
        return None if body is None else Seen(body, *children)

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

    async def _children(self, kind: str, key: Key, api_version: str | None = None) -> tuple[Json, ...]:
        if len(key.name) > _LABEL_VALUE_LIMIT:
            return ()  # no object can carry such a label
        path = paths.collection(kind, key.namespace, api_version)
        selector = names.selector_text(names.model_selector(key.name))
        try:
            found = await self._client.list_all(path, [("labelSelector", selector)])
        except GoneError as error:
            # In a namespace that is gone a list is empty; a kind that is not served is not found.
            self._missing.add(paths.collection(kind, None, api_version))
            raise TransientError(f"{self.outdated}; the operator must be started anew") from error
        self._missing.discard(paths.collection(kind, None, api_version))
        return tuple(found)
