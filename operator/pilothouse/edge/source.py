"""Events from the API server: kopf in a thread of its own, which does nothing but say "look at this key".

kopf keeps progress in annotations and sets finalizers for its richer handlers; `on.event` handlers do neither, and
are the only ones here. What they miss (kopf never retries them) the loop's own resync makes up for.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import kopf

from pilothouse.api import names
from pilothouse.edge.mapping import key_of
from pilothouse.plan.seen import Key

log = logging.getLogger(__name__)

# API version and plural of what is watched beside ModelDeployments themselves.
_CHILDREN: Final = (
    ("apps/v1", "deployments"),
    ("batch/v1", "jobs"),
    ("v1", "services"),
)
_CHILDREN_SELECTOR: Final = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
# kopf takes a finalizer of this name off the objects that it sees. There is none of this name.
_NO_FINALIZER: Final = f"{names.GROUP}/never-set"
_PING_SECONDS: Final = 5.0
# Of no use to us, but else kopf asks for the name of the process's user, and in a container that may have none.
_IDENTITY: Final[Any] = "pilothouse"
_TLS_CLOSE_SECONDS: Final = 0.25


class SourceDiedError(Exception):
    """The thread that watches the API server ended without having been asked to."""


class Credentials(Protocol):
    """How to reach the API server; paths are of PEM files."""

    @property
    def server(self) -> str: ...
    @property
    def ca_path(self) -> str | None: ...
    @property
    def certificate_path(self) -> str | None: ...
    @property
    def private_key_path(self) -> str | None: ...
    @property
    def token(self) -> str | None: ...
    @property
    def insecure(self) -> bool: ...


class Source:
    """Watches ModelDeployments, their Deployments, Jobs, Services and EndpointSlices, and passes on their keys.

    At its start, and again after every gap in a watch, it passes on the keys of all objects there are.
    """

    def __init__(
        self,
        *,
        notify: Callable[[Key], None],
        credentials: Callable[[], Awaitable[Credentials]],
        namespaces: Sequence[str],
        slice_api: str,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            notify: called with each key, in the event loop in which `start` is called.
            credentials: read when the thread starts, and again after the API server has refused them.
            namespaces: what to watch; none means the whole cluster, which needs rights in the whole cluster.
            slice_api: the API version in which the cluster serves EndpointSlices.
        """
        self._notify = notify
        self._credentials = credentials
        self._namespaces = list(namespaces)
        self._children = (*_CHILDREN, (slice_api, "endpointslices"))
        self._thread = threading.Thread(target=self._main, name="kopf", daemon=True)
        self._error: BaseException | None = None
        self._ended = asyncio.Event()
        self._theirs: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()  # waited for in the thread's loop, and set only there
        self._stopping = False

    def start(self) -> None:
        """Start the thread. Call once, in a running event loop."""
        self._ours = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread and wait for its end. Call after `start`."""
        self._stopping = True
        if self._theirs is not None:
            with suppress(RuntimeError):  # the loop has been closed
                self._theirs.call_soon_threadsafe(self._stop.set)
        await self._ended.wait()

    async def failed(self) -> None:
        """Wait until the thread ends without having been asked to.

        Raises:
            SourceDiedError: always, with the reason.
        """
        await self._ended.wait()
        raise SourceDiedError(
            f"the thread that watches the API server ended: {self._error!r}"
        ) from self._error

    async def responsive(self) -> bool:
        """Whether the thread is alive and its event loop turns."""
        if self._theirs is None or self._ended.is_set():
            return False
        pong = asyncio.Event()
        try:
            self._theirs.call_soon_threadsafe(self._ours.call_soon_threadsafe, pong.set)
            async with asyncio.timeout(_PING_SECONDS):
                await pong.wait()
        except (TimeoutError, RuntimeError):  # RuntimeError: the loop has been closed
            return False
        return True

    def _main(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._ours.call_soon_threadsafe(self._ended.set)

    async def _watch(self) -> None:
        self._theirs = asyncio.get_running_loop()
        if self._stopping:
            return  # told so before there was a loop to set the flag in
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(self._children),
            identity=_IDENTITY,
            standalone=True,  # a Lease decides who works; kopf's peering would write to the cluster
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )
        # TLS connections are closed by both sides, which takes the loop a moment (aiohttp, "Graceful Shutdown").
        await asyncio.sleep(_TLS_CLOSE_SECONDS)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry, id="login", errors=kopf.ErrorsMode.PERMANENT)(self._login)
        for api_version, plural in ((names.API_VERSION, names.PLURAL), *self._children):
            kopf.on.event(api_version, plural, registry=registry, id=plural)(self._on_event)
        return registry

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        try:
            found = await self._credentials()
        except Exception as error:
            # kopf would wait for credentials for ever.
            self._error = error
            self._stop.set()
            raise
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            token=found.token,
            insecure=found.insecure,
        )

    async def _on_event(self, body: kopf.Body, **_: Any) -> None:
        key = key_of(body)
        if key is not None:
            self._ours.call_soon_threadsafe(self._notify, key)


class _Patience:
    """Delays in seconds between attempts of one request; without end, so that no outage ends the watching."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5, 8), itertools.repeat(10))


def _settings(children: Sequence[tuple[str, str]]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # Would watch CustomResourceDefinitions and Namespaces, for which we ask no rights.
    settings.scanning.disabled = True
    settings.persistence.finalizer = _NO_FINALIZER
    # Would kill the process by a signal some time after the thread's end; that is for us to decide.
    settings.process.ultimate_exiting_timeout = None
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = _Patience()
    # The server ends each watch after a while; the client does if the server has forgotten to.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 5
    # A server sends at least a bookmark each minute: where none comes the connection is dead, told or not.
    settings.watching.inactivity_timeout = 70
    for api_version, plural in children:
        settings.watching.label_selectors[api_version, plural] = _CHILDREN_SELECTOR
    return settings
