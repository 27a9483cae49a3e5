"""What a fetch does with any store of objects that wants a key, whatever its API."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import pytest

from pilothouse_runtime.contract import FailureReason, Phase
from pilothouse_runtime.digests import digest_of
from tests.support.fetching import fetch, left

BODY: Final = bytes(range(256)) * 12_000  # 3 MB
FILES: Final = {
    "config.json": b"{}",
    "weights.bin": BODY,
    "two words/é.txt": b"words",
    "1_Pooling/config.json": b'{"pooling": true}',
}


class Store(Protocol):
    """A running store with the folders of `root` as its buckets."""

    @property
    def scheme(self) -> str: ...
    @property
    def root(self) -> Path: ...
    @property
    def secret(self) -> Mapping[str, str]:
        """What a Secret with the credentials holds."""

    @property
    def wrong(self) -> Mapping[str, str]:
        """The same with another key, which holds the word planted."""

    @property
    def key(self) -> str:
        """Of the right one, a part that nobody may be told."""


def fill(root: Path) -> None:
    """Write the folders that a store is to have."""
    for name, body in FILES.items():
        path = root / "models/minilm/2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (root / "models/minilm/20").write_bytes(b"a name that begins so too")


class StoreSuite:
    """The tests; whoever inherits them has a fixture `store` whose root was filled."""

    def test_a_file(self, store: Store, tmp_path: Path) -> None:
        digest = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
        uri = f"{store.scheme}://models/minilm/2/weights.bin"
        more = {"PILOTHOUSE_FETCH_DIGEST": digest, "PILOTHOUSE_LOG_LEVEL": "DEBUG"}
        done = fetch(tmp_path, uri, **more, **store.secret)
        assert done.words is None, done.text
        assert done.path.name == "weights.bin"
        assert done.path.read_bytes() == BODY
        assert done.record is not None
        assert f"sha256:{done.record.digest}" == digest
        assert store.key not in done.told
        assert "planted" not in done.told, "nor anything that it was exchanged for"

    def test_a_folder_and_its_digest(self, store: Store, tmp_path: Path) -> None:
        digest = digest_of(store.root / "models/minilm/2")
        uri = f"{store.scheme}://models/minilm/2/"
        done = fetch(tmp_path, uri, PILOTHOUSE_FETCH_DIGEST=digest, **store.secret)
        assert done.path.name == "2", done.text
        there = {str(p.relative_to(done.path)): p.read_bytes() for p in done.path.rglob("*") if p.is_file()}
        assert there == FILES
        assert digest_of(done.path) == digest

    def test_names_that_are_written_as_in_an_url(self, store: Store, tmp_path: Path) -> None:
        uri = f"{store.scheme}://models/minilm/2/two%20words/%C3%A9.txt"
        done = fetch(tmp_path, uri, **store.secret)
        assert done.path.name == "é.txt", done.text

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            (
                "models/minilm/2",
                "there is no such object; for all that is in a folder, end the uri with /",
            ),
            ("models/minilm/3/", "there is nothing"),
            ("nobucket/minilm", "there is no such object"),
        ],
    )
    def test_what_is_not_there(self, store: Store, tmp_path: Path, path: str, told: str) -> None:
        uri = f"{store.scheme}://{path}"
        done = fetch(tmp_path, uri, **store.secret)
        assert done.words is not None
        assert (done.words.reason, done.words.permanent) == (FailureReason.MODEL_DOWNLOAD_FAILED, True)
        assert done.words.message.startswith(f"{uri}: {told}")
        assert done.words.phase is Phase.PULLING
        assert left(done.mount) == []

    @pytest.mark.parametrize("path", ["models/minilm/2/weights.bin", "models/minilm/2/"])
    def test_a_wrong_key(self, store: Store, tmp_path: Path, path: str) -> None:
        done = fetch(tmp_path, f"{store.scheme}://{path}", **store.wrong)
        assert done.words is not None
        assert done.words.permanent
        assert re.search("the (store answered 403|sign-in answered 401) ", done.words.message)
        provider = min(store.secret).partition("_")[0]  # AWS or AZURE
        assert f"model.secretName must name a Secret with {provider}_" in done.words.message
        assert "planted" not in done.told
        assert left(done.mount) == []

    def test_a_wrong_digest_leaves_nothing(self, store: Store, tmp_path: Path) -> None:
        uri = f"{store.scheme}://models/minilm/2/"
        done = fetch(tmp_path, uri, PILOTHOUSE_FETCH_DIGEST=f"sha256:{'0' * 64}", **store.secret)
        assert done.words is not None
        assert (done.words.reason, done.words.permanent) == (FailureReason.DIGEST_MISMATCH, True)
        assert digest_of(store.root / "models/minilm/2") in done.words.message
        assert left(done.mount) == []
