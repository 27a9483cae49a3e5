"""The tests of stores of objects against Azurite, which needs hundreds of packages from npm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.azurite import azurite
from tests.support.blob_store import SignIn
from tests.support.store_suite import StoreSuite, fill


class TestAzurite(StoreSuite):
    """Microsoft's emulator of Azure Blob Storage."""

    @pytest.fixture(scope="class", params=["key", "sas"])
    @classmethod
    def store(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[SignIn]:
        root = tmp_path_factory.mktemp("blobs")
        fill(root)
        with azurite(root, tmp_path_factory.mktemp("azurite")) as ways:
            yield ways[request.param]
