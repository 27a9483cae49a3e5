"""Metrics of the loop."""

from __future__ import annotations

from pilothouse.edge.telemetry import PrometheusTelemetry
from pilothouse.plan.seen import Key

KEY = Key("vision", "digits")
LABELS = {"namespace": "vision", "name": "digits"}


def test_what_the_loop_does_is_counted() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.reconciled("ok", 0.2)
    telemetry.reconciled("ok", 0.2)
    telemetry.wrote("apply")
    telemetry.queued(3)
    telemetry.leading(True)
    value = telemetry.registry.get_sample_value
    assert value("pilothouse_reconcile_total", {"outcome": "ok"}) == 2
    assert value("pilothouse_reconcile_seconds_count") == 2
    assert value("pilothouse_api_writes_total", {"kind": "apply"}) == 1
    assert value("pilothouse_queue_depth") == 3
    assert value("pilothouse_leader") == 1


def test_a_model_has_gauges_for_as_long_as_it_exists() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.observed(KEY, ready=False, available=True)
    value = telemetry.registry.get_sample_value
    assert (value("pilothouse_model_ready", LABELS), value("pilothouse_model_available", LABELS)) == (0, 1)
    telemetry.forget(KEY)
    assert value("pilothouse_model_ready", LABELS) is None
    telemetry.forget(KEY)


def test_two_operators_in_one_process_do_not_share_metrics() -> None:
    PrometheusTelemetry().wrote("apply")
    assert (
        PrometheusTelemetry().registry.get_sample_value("pilothouse_api_writes_total", {"kind": "apply"})
        is None
    )
