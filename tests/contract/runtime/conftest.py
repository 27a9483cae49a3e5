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


@pytest.fixture(scope="module")
def oip_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OipServer]:
    """Our runtime; or the server at OIP_URL with the model OIP_MODEL, so that the suite can be tried on others."""
    if url := os.environ.get("OIP_URL"):
        yield OipServer(url.rstrip("/"), os.environ["OIP_MODEL"])
        return
    folder = tmp_path_factory.mktemp("oip")
    model = save_mixer(folder / "mixer.pt2")
    with runtime(folder, f"file://{model}", MODEL_VERSION="7", MAX_REQUEST_BYTES="1000000") as process:
        process.wait_ready()
        yield OipServer(process.url, "tiny")
