"""One connection to one API server: requests with a deadline, JSON in, JSON out, errors sorted."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME

from pilothouse.kube.errors import refused, unanswered
from pilothouse.plan.seen import Json

# An API server that needs longer than this for one small object is as good as away.
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_PAGE = 500
_AUTH = ["BearerToken"]

Query = Iterable[tuple[str, str]]


class NoClusterError(Exception):
    """There is neither a service account nor a kubeconfig to find an API server with."""


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server, for a client that is not this one. Holds secrets: never log it."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    token: str | None
    insecure: bool


async def load_configuration() -> Configuration:
    """Read how to reach the API server: KUBECONFIG where set, else the pod's service account, else ~/.kube/config.

    Raises:
        NoClusterError: none of these can be read.
    """
    configuration = Configuration()
    kubeconfig = os.environ.get("KUBECONFIG") or None
    try:
        if kubeconfig is None and _has_service_account():
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # theirs
        else:
            await load_kube_config(  # type: ignore[no-untyped-call] # theirs
                kubeconfig, client_configuration=configuration
            )
    except (ConfigException, OSError) as error:
        raise NoClusterError(
            f"no way to the API server: {error}; run in a pod with a service account, or set KUBECONFIG"
        ) from error
    return configuration


def _has_service_account() -> bool:
    return Path(SERVICE_TOKEN_FILENAME).exists()


async def load_credentials() -> Credentials:
    """Read the credentials anew, for a client that is not this one.

    Raises:
        NoClusterError: see `load_configuration`.
    """
    configuration = await load_configuration()
    header = await configuration.get_api_key_with_prefix("BearerToken")
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        token=header.split(" ", 1)[-1] if header else None,
        insecure=not configuration.verify_ssl,
    )


class Client:
    """Sends requests to the API server. An async context manager: leaving it closes the connections.

    A service account's token is read from its file again every minute (the kubelet renews it there), and all
    credentials are read again after the API server has refused them.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._api = ApiClient(configuration)
        self._api.user_agent = "pilothouse"

    @classmethod
    async def connect(cls) -> Self:
        """Return a client for the cluster that the environment names.

        Raises:
            NoClusterError: see `load_configuration`.
        """
        return cls(await load_configuration())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call] # theirs

    async def get(self, path: str, query: Query = ()) -> Json:
        """GET one object, or one page of a list. Raises as `request` does."""
        return await self.request("GET", path, query)

    async def apply(self, path: str, manifest: Json, manager: str) -> Json:
        """Server-side apply `manifest` at `path`, taking over fields that others own. Raises as `request` does."""
        query = (("fieldManager", manager), ("force", "true"))
        return await self.request("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def list_all(self, path: str, query: Query = ()) -> list[Json]:
        """Return all items of a collection, page by page, sorted by namespace and name.

        The server leaves kind and apiVersion out of the items of a list; they are put back. Raises as
        `request` does.
        """
        items = [item async for item in self._pages(path, list(query))]
        return sorted(
            items, key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"])
        )

    async def _pages(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator[Json]:
        more = ""
        while True:
            page = await self.get(
                path, [*query, ("limit", str(_PAGE)), *([("continue", more)] if more else [])]
            )
            typed = {"apiVersion": page["apiVersion"], "kind": page["kind"].removesuffix("List")}
            for item in page.get("items") or ():
                yield typed | item
            more = page["metadata"].get("continue", "")
            if not more:
                return

    async def request(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Send one request and return the answer.

        Args:
            method: the HTTP method.
            path: from the root, percent-encoded (see `pilothouse.kube.paths`).
            query: names and values, not encoded.
            body: what to send, as plain JSON.
            content_type: what `body` is.

        Raises:
            PilothouseError: one of `pilothouse.control.errors`, by what went wrong.
        """
        request = f"{method} {path}"
        headers = {"Accept": "application/json", "Content-Type": content_type}
        prepared = await self._api.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body, auth_settings=_AUTH
        )
        try:
            response = await self._api.call_api(*prepared, _request_timeout=_TIMEOUT)
            answer: bytes = await response.read()  # type: ignore[no-untyped-call] # theirs
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unanswered(request, error) from error
        if response.status == 401:
            with suppress(NoClusterError):
                self._api.configuration = await load_configuration()
        if response.status >= 400:
            raise refused(request, response.status, answer, response.headers)
        return _decoded(request, answer)


def _decoded(request: str, answer: bytes) -> Json:
    try:
        data: Any = json.loads(answer)
    except ValueError as error:
        raise unanswered(request, error) from error
    if not isinstance(data, dict):
        raise unanswered(request, TypeError(f"not a JSON object but a {type(data).__name__}"))
    return data
