"""Probes and metrics over HTTP."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from pilothouse.edge.http import make_app, serving


async def well() -> str | None:
    return None


async def ill() -> str | None:
    return "the API server has not answered yet"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_says_what_is_wrong(path: str) -> None:
    for check, expected in ((well, (200, "ok\n")), (ill, (503, "the API server has not answered yet\n"))):
        app = make_app(alive=check, ready=check, registry=CollectorRegistry())
        async with serving(app, 0, "127.0.0.1") as port, httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{port}{path}")
            assert (response.status_code, response.text) == expected


async def test_metrics_are_those_of_the_given_registry() -> None:
    registry = CollectorRegistry()
    Counter("deeds", "Deeds.", registry=registry).inc()
    app = make_app(alive=well, ready=well, registry=registry)
    async with serving(app, 0, "127.0.0.1") as port, httpx.AsyncClient() as client:
        response = await client.get(f"http://127.0.0.1:{port}/metrics")
        assert "deeds_total 1.0" in response.text
        assert response.headers["Content-Type"].startswith("text/plain; version=")
