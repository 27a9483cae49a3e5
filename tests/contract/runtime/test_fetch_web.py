"""Models from web servers that want to know who asks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pilothouse_runtime.contract import FailureReason
from tests.support.badserver import BadServer
from tests.support.fetching import Fetch, fetch, left
from tests.support.runtime_process import eventually

BODY = bytes(range(256)) * 4_000
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


@pytest.mark.parametrize(
    ("secret", "sent"),
    [
        ({"HTTP_BEARER_TOKEN": "planted-token\n"}, "Bearer planted-token"),
        ({"HTTP_USERNAME": "fetcher", "HTTP_PASSWORD": "planted-pass"}, "Basic ZmV0Y2hlcjpwbGFudGVkLXBhc3M="),
    ],
)
def test_who_asks_is_told_to_the_server_alone(tmp_path: Path, secret: dict[str, str], sent: str) -> None:
    with BadServer({"m.pt": BODY}) as server:
        done = fetch(tmp_path, f"{server.url}/auth/m.pt", **secret)
        assert server.requests_of("/auth/m.pt")[0]["Authorization"] == sent
    assert done.path.read_bytes() == BODY
    assert done.path.name == "m.pt"
    assert "planted" not in done.told


def test_credentials_are_for_no_other_host(tmp_path: Path) -> None:
    with BadServer({"m.pt": BODY}) as server:
        done = fetch(tmp_path, f"{server.url}/away/m.pt", HTTP_BEARER_TOKEN="planted-token")
        assert "Authorization" in server.requests_of("/away/m.pt")[0]
        assert "Authorization" not in server.requests_of("/auth/m.pt")[0]
    assert done.words is not None
    assert "401" in done.words.message


def test_nobody_who_is_not_let_in_is_told_more(tmp_path: Path) -> None:
    with BadServer({"m.pt": BODY}) as server:
        done = fetch(tmp_path, f"{server.url}/auth/m.pt?token=planted")
    assert done.words is not None
    assert done.words.permanent
    assert done.words.message == (
        f"{server.url}/auth/m.pt: the server answered 401 Unauthorized; check model.uri, model.secretName and who may"
        " read it"
    )
    assert "planted" not in done.told


def test_a_signed_address_is_asked_and_not_told(tmp_path: Path) -> None:
    with BadServer({"m.pt": BODY}) as server:
        done = fetch(tmp_path, f"{server.url}/good/m.pt?sig=planted", PILOTHOUSE_FETCH_DIGEST=DIGEST)
        assert server.seen[0][0] == "/good/m.pt?sig=planted"
    assert done.path.read_bytes() == BODY
    assert "planted" not in done.told


def test_a_page_in_place_of_a_model(tmp_path: Path) -> None:
    with BadServer({}) as server:
        done = fetch(tmp_path, f"{server.url}/html/m.pt", PILOTHOUSE_FETCH_DIGEST=DIGEST)
        loaded = fetch(tmp_path / "other", f"{server.url}/html/m.pt")
    assert done.words is not None
    assert done.words.reason is FailureReason.DIGEST_MISMATCH
    assert "a page of HTML" in done.words.message
    assert loaded.record is not None
    assert loaded.record.content_type == "text/html; charset=utf-8", "for who will try to load it"


def test_what_an_earlier_start_brought_is_taken(tmp_path: Path) -> None:
    with BadServer({"m.pt": BODY}) as server:
        url = f"{server.url}/good/m.pt"
        fetch(tmp_path, url, PILOTHOUSE_FETCH_DIGEST=DIGEST)
        assert fetch(tmp_path, url, PILOTHOUSE_FETCH_DIGEST=DIGEST).path.read_bytes() == BODY
        assert server.counts["/good/m.pt"] == 1
        (tmp_path / "mount/content/m.pt").write_bytes(b"rotten")
        assert fetch(tmp_path, url, PILOTHOUSE_FETCH_DIGEST=DIGEST).path.read_bytes() == BODY
        assert fetch(tmp_path, url).path.read_bytes() == BODY
        assert server.counts["/good/m.pt"] == 3, "what has no digest may have changed"


def test_what_a_killed_start_left_is_cleaned_up(tmp_path: Path) -> None:
    with BadServer({"m.pt": BODY}) as server:
        killed = Fetch(tmp_path, f"{server.url}/stall/m.pt", {})
        eventually(lambda: "part/m.pt" in left(killed.mount), "half a file")
        killed.kill()
        assert killed.record is None
        done = fetch(tmp_path, f"{server.url}/good/m.pt")
    assert left(done.mount) == ["content", "content/m.pt", "fetched.json"]
