"""Which API versions are taken of those that a server serves; servers of many ages are played over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from pilothouse.control.errors import BlockedError
from pilothouse.kube.client import Client
from pilothouse.kube.discovery import Served, discover

_SLICES = ("discovery.k8s.io/v1beta1", "discovery.k8s.io/v1")


@asynccontextmanager
async def server(*served: str) -> AsyncIterator[Client]:
    """An API server that serves these group versions and nothing else."""

    async def group(request: web.Request) -> web.Response:
        name = request.match_info["group"]
        versions = [v for v in served if v.startswith(f"{name}/")]
        if not versions:
            status = {"kind": "Status", "code": 404, "message": "404 page not found"}
            return web.Response(status=404, text=json.dumps(status), content_type="application/json")
        body = [{"groupVersion": v, "version": v.partition("/")[2]} for v in versions]
        return web.json_response({"kind": "APIGroup", "name": name, "versions": body})

    app = web.Application()
    app.router.add_get("/apis/{group}", group)
    async with TestServer(app) as running:
        configuration = Configuration()
        configuration.host = str(running.make_url("")).rstrip("/")
        async with Client(configuration) as client:
            yield client


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (  # 1.20
            [
                *("policy/v1beta1", "autoscaling/v1", "autoscaling/v2beta1", "autoscaling/v2beta2"),
                "discovery.k8s.io/v1beta1",
            ],
            Served("policy/v1beta1", "autoscaling/v2beta2", "discovery.k8s.io/v1beta1"),
        ),
        (  # 1.22
            ["policy/v1", "policy/v1beta1", "autoscaling/v1", "autoscaling/v2beta2", *_SLICES],
            Served("policy/v1", "autoscaling/v2beta2", "discovery.k8s.io/v1"),
        ),
        (  # 1.24: the order of the answer does not matter
            [
                "policy/v1beta1",
                "policy/v1",
                "autoscaling/v2beta2",
                "autoscaling/v2",
                "autoscaling/v1",
                *_SLICES,
            ],
            Served("policy/v1", "autoscaling/v2", "discovery.k8s.io/v1"),
        ),
        (
            ["policy/v1", "autoscaling/v2", "autoscaling/v1", "discovery.k8s.io/v1"],
            Served("policy/v1", "autoscaling/v2", "discovery.k8s.io/v1"),
        ),
    ],
)
async def test_the_newest_version_that_is_served_is_taken(served: list[str], expected: Served) -> None:
    async with server(*served) as client:
        assert await discover(client) == expected


@pytest.mark.parametrize(
    "served",
    [
        ["policy/v1"],
        ["policy/v1", "autoscaling/v1"],
        ["policy/v2", "autoscaling/v2"],
        ["policy/v1", "autoscaling/v2"],
    ],
)
async def test_a_server_with_none_that_we_know_is_told(served: list[str]) -> None:
    async with server(*served) as client:
        with pytest.raises(BlockedError, match=r"serves none of .* needs Kubernetes 1\.20 or newer"):
            await discover(client)
