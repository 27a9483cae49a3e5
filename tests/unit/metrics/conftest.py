"""A machine's worth of pods for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.metrics.servers import Pods


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    """Addresses at which servers may be started."""
    pods = Pods()
    yield pods
    await pods.close()
