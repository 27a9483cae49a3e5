"""Prometheus metrics of the loop."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from pilothouse.plan.seen import Key

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class PrometheusTelemetry:
    """Fulfils `pilothouse.control.ports.Telemetry`. Each has a registry of its own; there is no global state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._passes = Counter(
            "pilothouse_reconcile", "Passes of the loop by outcome.", ["outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "pilothouse_reconcile_seconds", "Time that a pass took.", buckets=_SECONDS, registry=self.registry
        )
        self._depth = Gauge("pilothouse_queue_depth", "Keys that wait for a worker.", registry=self.registry)
        self._writes = Counter(
            "pilothouse_api_writes",
            "Writes asked of the API server by kind.",
            ["kind"],
            registry=self.registry,
        )
        model = ["namespace", "name"]
        self._ready = Gauge(
            "pilothouse_model_ready",
            "1 where the revision asked for serves all requests.",
            model,
            registry=self.registry,
        )
        self._available = Gauge(
            "pilothouse_model_available", "1 where enough pods serve.", model, registry=self.registry
        )
        self._leader = Gauge("pilothouse_leader", "1 while this process leads.", registry=self.registry)

    def reconciled(self, outcome: str, seconds: float) -> None:
        """One pass ended."""
        self._passes.labels(outcome).inc()
        self._seconds.observe(seconds)

    def queued(self, depth: int) -> None:
        """So many keys wait now."""
        self._depth.set(depth)

    def wrote(self, kind: str) -> None:
        """One write to the API server was asked for."""
        self._writes.labels(kind).inc()

    def forget(self, key: Key) -> None:
        """The ModelDeployment is gone: drop its gauges."""
        for gauge in (self._ready, self._available):
            gauge.remove_by_labels({"namespace": key.namespace, "name": key.name})

    def observed(self, key: Key, ready: bool, available: bool) -> None:
        """What the last pass found of one ModelDeployment."""
        self._ready.labels(*key).set(ready)
        self._available.labels(*key).set(available)

    def leading(self, leads: bool) -> None:
        """Whether this process leads now."""
        self._leader.set(leads)
