"""The server that the protocol's tests talk to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.runtime_process import runtime
from tests.support.tiny_models import save_mixer


@dataclass(frozen=True)
class OipServer:
    """Any server of the Open Inference Protocol v2 over HTTP, and a model on it that takes zeros."""

    url: str
    model: str


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OipServer]:
    """Our runtime with the model Mixer, of version 7, and a small limit on requests."""
    folder = tmp_path_factory.mktemp("oip")
    model = save_mixer(folder / "mixer.pt2")
    with runtime(folder, f"file://{model}", MODEL_VERSION="7", MAX_REQUEST_BYTES="1000000") as process:
        process.wait_ready()
        yield OipServer(process.url, "tiny")


@pytest.fixture(scope="session")
def oip_server(request: pytest.FixtureRequest) -> OipServer:
    """Our runtime; or the server at OIP_URL with the model OIP_MODEL, so that the protocol's suite can judge others."""
    if url := os.environ.get("OIP_URL"):
        return OipServer(url.rstrip("/"), os.environ["OIP_MODEL"])
    own: OipServer = request.getfixturevalue("own_server")
    return own
