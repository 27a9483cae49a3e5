"""The composition root: the one file that sees everything, and puts it together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from pilothouse.config import Config, ConfigError
from pilothouse.control.controller import Controller
from pilothouse.control.errors import GoneError, PilothouseError
from pilothouse.control.ports import Listener, Sampler
from pilothouse.control.reconciler import Reconciler
from pilothouse.edge import logging as json_logging
from pilothouse.edge.http import make_app, serving
from pilothouse.edge.source import Source, SourceDiedError
from pilothouse.edge.telemetry import PrometheusTelemetry
from pilothouse.kube.applier import KubeApplier
from pilothouse.kube.client import Client, NoClusterError, load_credentials
from pilothouse.kube.discovery import Served, discover
from pilothouse.kube.events import KubeRecorder
from pilothouse.kube.lease import Elector, LeadershipLostError
from pilothouse.kube.reader import KubeReader
from pilothouse.kube.status import KubeStatusWriter
from pilothouse.metrics.reports import http_listener
from pilothouse.metrics.sampler import http_sampler
from pilothouse.plan.template import Defaults

log = logging.getLogger(__name__)

LEASE_NAME: Final = "pilothouse-operator"
_LISTING_RETRY_SECONDS = 5.0
# For the passes that are running when the process is told to stop; the kubelet's usual patience is 30 s.
_FINISH_SECONDS = 20.0


class Operator:
    """One operator process: it stands by until it leads, then works until it is told to stop."""

    def __init__(self, config: Config, client: Client, stop: asyncio.Event) -> None:
        self._config = config
        self._client = client
        self._stop = stop
        self._telemetry = PrometheusTelemetry()
        self._reader: KubeReader | None = None  # there is none before the cluster is known
        self._elector = Elector(client, config.lease_namespace, LEASE_NAME)
        self._source: Source | None = None

    async def run(self) -> None:
        """Run until `stop` is set.

        Raises:
            SourceDiedError: no events come in any more.
            OSError: the HTTP port is in use.
        """
        app = make_app(alive=self._sick, ready=self._unready, registry=self._telemetry.registry)
        async with serving(app, self._config.http_port) as port:
            log.info("probes and metrics are on port %d", port)
            self._telemetry.leading(False)
            if await self._unless_stopped(self._elector.acquire()):
                self._telemetry.leading(True)
                holding = asyncio.create_task(_hold_or_exit(self._elector))
                try:
                    await self._lead()
                finally:
                    holding.cancel()
                    await self._elector.release()
            log.info("stopped")

    async def _lead(self) -> None:
        """Work until told to stop.

        Events are watched from here on and not before: a standby would hold them in vain, as the first listing
        tells of every object anyway.
        """
        await self._unless_stopped(self._get_to_know())
        if self._reader is None:
            return
        async with http_sampler(self._config.prometheus_url, _now) as sampler, http_listener() as listener:
            reconciler = self._reconciler(self._reader, sampler, listener)
            await self._work(Controller(reconciler, self._telemetry), self._reader.served)

    async def _work(self, controller: Controller, served: Served) -> None:
        """Let the controller work on what events tell, until told to stop."""
        source = self._source = Source(
            notify=controller.enqueue,
            credentials=load_credentials,
            namespaces=self._config.namespaces,
            slice_api=served.slice_api,
        )
        working = asyncio.create_task(controller.run())
        source.start()
        try:
            await self._unless_stopped(_any_failure(source, working))
        finally:
            await source.stop()
            working.cancel()
            await asyncio.wait({working}, timeout=_FINISH_SECONDS)

    async def _get_to_know(self) -> None:
        """Wait until we know what the cluster serves, and that its ModelDeployments are there and we may list them."""
        while self._reader is None:
            try:
                reader = KubeReader(self._client, await discover(self._client))
                keys = await reader.keys(self._config.namespaces)
            except GoneError:
                log.warning(
                    "this cluster knows no ModelDeployments; install the CustomResourceDefinition (crds/)"
                )
            except PilothouseError as error:
                log.warning("cannot list ModelDeployments: %s", error)
            else:
                log.info("there are %d ModelDeployments", len(keys))
                self._reader = reader
                return
            await asyncio.sleep(_LISTING_RETRY_SECONDS)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work` and return True, or return False as soon as the process is told to stop."""
        doing = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
            return doing.done()
        finally:
            for task in (doing, stopping):
                task.cancel()
            await asyncio.gather(doing, stopping, return_exceptions=True)

    def _reconciler(self, reader: KubeReader, sampler: Sampler, listener: Listener) -> Reconciler:
        return Reconciler(
            reader=reader,
            applier=KubeApplier(self._client),
            status_writer=KubeStatusWriter(self._client),
            recorder=KubeRecorder(self._client),
            telemetry=self._telemetry,
            defaults=Defaults(
                runtime_image=self._config.runtime_image,
                tensorflow_image=self._config.tensorflow_image,
                compile_image=self._config.compile_image,
                budget_api=reader.served.budget_api,
                autoscaler_api=reader.served.autoscaler_api,
                prometheus=bool(self._config.prometheus_url),
                cache=self._config.cache,
            ),
            clock=_now,
            sampler=sampler,
            listener=listener,
            away=self._elector.away,
        )

    async def _sick(self) -> str | None:
        if self._source is not None and not await self._source.responsive():
            return "the thread that watches the API server does not answer"
        return self._reader.outdated if self._reader is not None else None

    async def _unready(self) -> str | None:
        if not self._elector.connected:
            return self._elector.complaint or "the lease has not been looked at yet"
        if self._elector.leading and self._reader is None:
            return "ModelDeployments could not be listed yet"
        return None


def _now() -> datetime:
    return datetime.now(UTC)


async def _any_failure(source: Source, working: asyncio.Task[None]) -> None:
    """Wait until the source or the controller ends, and raise why."""
    watching = asyncio.create_task(source.failed())
    try:
        done, _ = await asyncio.wait({watching, working}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        watching.cancel()


async def _hold_or_exit(elector: Elector) -> None:
    """Hold the Lease. Once it is lost another operator may write, so this one ends here and now."""
    try:
        await elector.hold()
    except LeadershipLostError as error:
        log.critical("%s; exiting at once", error)
        logging.shutdown()
        os._exit(1)


async def _main(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    try:
        async with await Client.connect() as client:
            await Operator(config, client, stop).run()
    except (NoClusterError, SourceDiedError, OSError) as error:
        log.critical("%s", error, exc_info=error.__cause__)
        return 1
    except Exception:
        log.critical("the operator failed; this is a bug in Pilothouse, please report it", exc_info=True)
        return 1
    return 0


def main() -> None:
    """Run the operator with the configuration in the environment; the exit status is 0 only when told to stop."""
    try:
        config = Config.from_environment(os.environ)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    json_logging.configure(config.log_level)
    sys.exit(asyncio.run(_main(config)))
