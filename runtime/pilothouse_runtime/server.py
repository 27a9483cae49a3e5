"""The parts of one serving process, put together: what all ways to run it have in common."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pilothouse_runtime import contract
from pilothouse_runtime.core.batching import Limits, Queue
from pilothouse_runtime.core.settings import Sampling, Settings
from pilothouse_runtime.core.states import Phase, Readiness
from pilothouse_runtime.engine.batcher import Batcher
from pilothouse_runtime.engine.explainer import Explainer
from pilothouse_runtime.engine.limits import memory_limit
from pilothouse_runtime.engine.loader import Loaded
from pilothouse_runtime.engine.memory import give_back_at_rest
from pilothouse_runtime.engine.source import Source
from pilothouse_runtime.engine.threads import share
from pilothouse_runtime.serve import openapi
from pilothouse_runtime.serve.accesslog import AccessLog
from pilothouse_runtime.serve.calls import Observer
from pilothouse_runtime.serve.dataplane import DataPlane
from pilothouse_runtime.serve.drift import Drift
from pilothouse_runtime.serve.explain import Explaining
from pilothouse_runtime.serve.http.server import HttpLimits, HttpServer
from pilothouse_runtime.serve.metrics import Metrics
from pilothouse_runtime.serve.rest import Rest
from pilothouse_runtime.serve.sample_files import SampleFile, Target
from pilothouse_runtime.serve.sampling import Sampler
from pilothouse_runtime.serve.tracing import Tracing, asked_for
from pilothouse_runtime.serve.watching import Watched, Watcher

_BODIES_SHARE = 4  # of the memory, one part in so many may be bodies of requests
_LEAST = 1.0  # seconds for samples where requests took all the time for draining


@dataclass(frozen=True)
class Place:
    """Where this process runs: what differs between a pod and a developer's machine."""

    host: str
    port: int
    grpc_port: int
    termination_log: Path
    source: Source


class Server:
    """The data plane and its HTTP front, with metrics, access log and traces.

    Attributes:
        plane, http, metrics: its parts.
    """

    def __init__(self, settings: Settings, readiness: Readiness, metrics: Metrics) -> None:
        self._settings = settings
        self.metrics = metrics
        self._readiness = readiness
        self._listeners: list[AccessLog | Tracing] = []
        self._sampler: Sampler | None = None
        self._watchers: list[Watcher] = []
        if settings.access_log:
            self._listeners.append(AccessLog(sys.stderr.fileno()))
        if asked_for(os.environ):
            self._listeners.append(Tracing.from_environment(settings))
        observers: list[Observer] = [listener.observe for listener in self._listeners]
        if settings.sampling:
            self._sampler = sampler = Sampler(settings.sampling, _target(settings.sampling))
            metrics.show(sampler.families)
            self._watchers.append(sampler)
            observers.append(sampler.observe)
        self.plane = DataPlane(settings, readiness, metrics, observers)
        max_body = settings.max_request_bytes
        self._explaining = Explaining(self.plane, metrics, settings.version, max_body)
        rest = Rest(self.plane, readiness, metrics, max_body, openapi.document(), self._explaining)
        memory = memory_limit()
        limits = HttpLimits(
            max_body=max_body,
            max_bodies=max(max_body, memory // _BODIES_SHARE // settings.workers),
            max_age=settings.max_connection_age,
        )
        self.http = http = HttpServer(rest.admit, limits)
        metrics.watch(
            contract.METRIC_BODY_BYTES, "Bytes of requests' bodies in memory.", lambda: http.body_bytes
        )
        metrics.watch(contract.METRIC_MEMORY_LIMIT, "Bytes that the container may use.", lambda: memory)

    def attach(self, loaded: Loaded, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Take requests for this model, which took so many seconds to load, from now on."""
        settings, description, metrics = self._settings, loaded.description, self.metrics
        waiting = Queue(Limits(max_rows=description.max_batch, max_delay=settings.batch_max_delay))
        waiting.expect(loaded.warm.seconds)
        threads = share(loaded.together)
        batcher = Batcher(loaded.model, description, waiting, loop, threads=threads, ran=metrics.ran)
        metrics.loaded(settings, description, seconds)
        metrics.watch(contract.METRIC_WAITING, "Requests that wait for the model.", lambda: batcher.waiting)
        if settings.explain:
            explainer = Explainer(loaded.model, max(1, description.max_batch), threads.beside)
            self._explaining.attach(explainer)
        if loaded.profile is not None:
            drift = Drift(loaded.profile)
            metrics.show(drift.families)
            self._watchers.append(drift)
        self.plane.attach(Watched(batcher, self._watchers) if self._watchers else batcher)
        self._resting = loop.create_task(give_back_at_rest(lambda: metrics.requests))

    def flush(self) -> None:
        """Write and send what is told of requests that have ended."""
        for listener in self._listeners:
            listener.flush()
        if self._sampler is not None:
            self._sampler.flush(self._left())

    def _left(self) -> float:
        """Return how many seconds are left of those for draining, before the kubelet ends the process."""
        settings = self._settings
        begun = [entered.since for entered in self._readiness.history if entered.phase is Phase.DRAINING]
        passed = max(time.time() - begun[0], 0) if begun else 0
        return max(settings.drain_delay + settings.drain_timeout - passed, _LEAST)


def _target(sampling: Sampling) -> Target:
    """Return where samples go. Raises LoadError: InvalidConfiguration."""
    # The pod's name: of several that share a volume or a prefix, each has files of its own.
    name = socket.gethostname()
    if not sampling.uri:
        return SampleFile(sampling.directory, name, sampling.max_bytes)
    from pilothouse_runtime.serve.sample_objects import SampleObjects, store_of

    return SampleObjects(sampling.uri, store_of(sampling.uri, os.environ), name, sampling.max_bytes)
