"""Downloads from a server that misbehaves in every way it knows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import unquote

import pytest

from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.engine.download import DownloadPolicy
from pilothouse_runtime.engine.source import Source, fetch
from tests.support.badserver import BadServer

BODY = bytes(range(256)) * 12_000  # 3 MB
POLICY = DownloadPolicy(connect_timeout=2, read_timeout=0.3, attempts=3, patience=5, backoff=0.01)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "cache", tmp_path / "pvc", POLICY)


class Told(list[str]):
    """What the download said was going on."""

    def __call__(self, message: str) -> None:
        self.append(message)


@pytest.mark.parametrize("way", ["good", "plain", "flaky", "redirect", "cut-once", "cut-plain", "short-once"])
def test_the_whole_file_arrives(source: Source, way: str) -> None:
    with BadServer({"m.pt": BODY}) as server:
        file = fetch(f"{server.url}/{way}/m.pt", None, source, Told())
    assert file.path.read_bytes() == BODY
    assert file.path.name == "m.pt", "messages name the file as its user does"
    assert [path for path in source.cache_dir.rglob("*") if path.is_file()] == [file.path]


@pytest.mark.parametrize(
    "name", ["", "a%2F..%2F..%2Fb", "a%2F..", "%00", ".hidden", "x" * 300, "a%0Ab", "caf%C3%A9.pt2"]
)
def test_a_download_stays_in_its_folder_whatever_it_is_called(source: Source, name: str) -> None:
    with BadServer({unquote(name): BODY}) as server:
        file = fetch(f"{server.url}/good/{name}", None, source, Told())
    assert file.path.parent == source.cache_dir / "unchecked"
    assert file.path.read_bytes() == BODY


def test_a_cut_download_is_resumed_where_the_server_can(source: Source) -> None:
    with BadServer({"m.pt": BODY}) as server:
        fetch(f"{server.url}/cut-once/m.pt", hashlib.sha256(BODY).hexdigest(), source, Told())
        first, second = server.requests_of("/cut-once/m.pt")
    assert "Range" not in first
    assert 0 < int(second["Range"].removeprefix("bytes=").rstrip("-")) <= len(BODY) // 2


def test_a_cut_download_starts_again_where_the_server_cannot(source: Source) -> None:
    with BadServer({"m.pt": BODY}) as server:
        fetch(f"{server.url}/cut-plain/m.pt", None, source, Told())
        assert ["Range" in headers for headers in server.requests_of("/cut-plain/m.pt")] == [False, False]


@pytest.mark.parametrize(
    ("way", "permanent", "told", "tries"),
    [
        ("silent", False, "no data for 0.3 s", 3),
        ("stall", False, "no data for 0.3 s after", 3),
        ("cut", False, "the connection was cut after", 3),
        ("short", False, "the connection was cut after", 3),
        ("503", False, "the server answered 503", 3),
        ("429", False, "the server answered 429", 3),
        ("403", True, "the server answered 403 Forbidden; check model.uri", 1),
        ("404", True, "the server answered 404 Not Found", 1),
        ("204", True, "the server answered 204", 1),
        ("loop", True, "more than 5 redirects", 6),
        ("elsewhere", True, "is no URL", 1),
    ],
)
def test_giving_up(source: Source, way: str, permanent: bool, told: str, tries: int) -> None:
    body = BODY[:10_000]  # less than counts as progress
    said = Told()
    with BadServer({"m.pt": body}) as server:
        with pytest.raises(LoadError) as caught:
            fetch(f"{server.url}/{way}/m.pt?token=secret", None, source, said)
        assert server.counts[f"/{way}/m.pt"] == tries
    assert caught.value.reason is FailureReason.MODEL_DOWNLOAD_FAILED
    assert caught.value.permanent is permanent
    assert told in caught.value.message
    assert caught.value.message.startswith(f"{server.url}/{way}/m.pt: ")
    assert "secret" not in caught.value.message + "".join(said)
    assert list(source.cache_dir.iterdir()) == []


def test_the_query_is_sent(source: Source) -> None:
    with BadServer({"m.pt": BODY}) as server:
        fetch(f"{server.url}/good/m.pt?token=secret", None, source, Told())
        assert server.seen[0][0] == "/good/m.pt?token=secret"


def test_a_host_that_drips_counts_as_silent(tmp_path: Path) -> None:
    policy = DownloadPolicy(read_timeout=5, attempts=1, patience=0.3)
    with (
        BadServer({"m.pt": BODY}) as server,
        pytest.raises(LoadError, match="slower than 1024 bytes a second"),
    ):
        fetch(f"{server.url}/drip/m.pt", None, Source(tmp_path, tmp_path, policy), Told())


def test_progress_gives_further_attempts(tmp_path: Path) -> None:
    policy = DownloadPolicy(read_timeout=5, attempts=1, backoff=0.01)
    with BadServer({"m.pt": BODY}) as server:  # half of it is progress, so that one attempt more is made
        fetch(f"{server.url}/short-once/m.pt", None, Source(tmp_path, tmp_path, policy), Told())


def test_nobody_listens(source: Source) -> None:
    with BadServer({}) as server:
        pass
    with pytest.raises(LoadError, match="cannot connect: Connection refused") as caught:
        fetch(f"{server.url}/good/m.pt", None, source, Told())
    assert not caught.value.permanent


def test_a_name_that_nobody_knows(source: Source) -> None:
    with pytest.raises(LoadError, match="the host's name cannot be resolved") as caught:
        fetch("http://no-such-host.invalid/m.pt", None, source, Told())
    assert not caught.value.permanent


def test_a_verified_download_is_kept_for_the_next_start(source: Source) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    with BadServer({"m.pt": BODY}) as server:
        first = fetch(f"{server.url}/good/m.pt", digest, source, Told())
        assert fetch(f"{server.url}/good/m.pt", digest, source, Told()) == first.__class__(first.path)
        assert server.counts["/good/m.pt"] == 1
        first.path.write_bytes(b"rotten")
        assert fetch(f"{server.url}/good/m.pt", digest, source, Told()).path.read_bytes() == BODY
        assert server.counts["/good/m.pt"] == 2


def test_a_wrong_digest_keeps_nothing(source: Source) -> None:
    with BadServer({}) as server, pytest.raises(LoadError, match=r"page of HTML .* 'Sign in") as caught:
        fetch(f"{server.url}/html/m.pt", "0" * 64, source, Told())
    assert caught.value.reason is FailureReason.DIGEST_MISMATCH
    assert caught.value.permanent
    assert list(source.cache_dir.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with BadServer({"m.pt": BODY}) as server, pytest.raises(LoadError, match="cannot write to") as caught:
        fetch(f"{server.url}/good/m.pt", None, Source(tmp_path / "cache", tmp_path, POLICY), Told())
    assert not caught.value.permanent
