"""Models from a real S3-compatible store that wants a key, and from one that misbehaves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason, Phase
from pilothouse_runtime.digests import digest_of
from tests.support.badserver import BadServer
from tests.support.fetching import SECRET, Fetch, ObjectStore, fetch, left, object_store
from tests.support.runtime_process import eventually

BODY = bytes(range(256)) * 12_000  # 3 MB
FILES = {
    "config.json": b"{}",
    "weights.bin": BODY,
    "two words/é.txt": b"words",
    "1_Pooling/config.json": b'{"pooling": true}',
}
ANONYMOUS = {"AWS_SKIP_SIGNATURE": "true", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    root = tmp_path_factory.mktemp("store")
    for name, body in FILES.items():
        path = root / "models/minilm/2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (root / "models/minilm/20").write_bytes(b"a name that begins so too")
    (root / "empty").mkdir()
    with object_store(root / "", root.with_name("store.log")) as store:
        yield store


def test_a_file(store: ObjectStore, tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    uri = "s3://models/minilm/2/weights.bin"
    done = fetch(tmp_path, uri, PILOTHOUSE_FETCH_DIGEST=digest, **store.secret)
    assert done.words is None, done.text
    assert done.path.name == "weights.bin"
    assert done.path.read_bytes() == BODY
    assert done.record is not None
    assert f"sha256:{done.record.digest}" == digest
    assert SECRET not in done.told


def test_a_folder_and_its_digest(store: ObjectStore, tmp_path: Path) -> None:
    digest = digest_of(store.root / "models/minilm/2")
    done = fetch(tmp_path, "s3://models/minilm/2/", PILOTHOUSE_FETCH_DIGEST=digest, **store.secret)
    assert done.path.name == "2", done.text
    there = {str(p.relative_to(done.path)): p.read_bytes() for p in done.path.rglob("*") if p.is_file()}
    assert there == FILES
    assert digest_of(done.path) == digest


def test_names_that_are_written_as_in_an_url(store: ObjectStore, tmp_path: Path) -> None:
    done = fetch(tmp_path, "s3://models/minilm/2/two%20words/%C3%A9.txt", **store.secret)
    assert done.path.name == "é.txt", done.text


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://models/minilm/2", "there is no such object; for all that is in a folder, end the uri with /"),
        ("s3://models/minilm/3/", "there is nothing"),
        ("s3://nobucket/minilm", "there is no such object"),
    ],
)
def test_what_is_not_there(store: ObjectStore, tmp_path: Path, uri: str, told: str) -> None:
    done = fetch(tmp_path, uri, **store.secret)
    assert done.words is not None
    assert (done.words.reason, done.words.permanent) == (FailureReason.MODEL_DOWNLOAD_FAILED, True)
    assert done.words.message.startswith(f"{uri}: {told}")
    assert done.words.phase is Phase.PULLING
    assert left(done.mount) == []


@pytest.mark.parametrize("uri", ["s3://models/minilm/2/weights.bin", "s3://models/minilm/2/"])
def test_a_wrong_key(store: ObjectStore, tmp_path: Path, uri: str) -> None:
    secret = store.secret | {"AWS_SECRET_ACCESS_KEY": "planted-but-wrong"}
    done = fetch(tmp_path, uri, **secret)
    assert done.words is not None
    assert done.words.permanent
    assert "the store answered 403 Forbidden" in done.words.message
    assert "model.secretName must name a Secret with AWS_ACCESS_KEY_ID" in done.words.message
    assert "planted" not in done.told


def test_a_wrong_digest_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    done = fetch(
        tmp_path, "s3://models/minilm/2/", PILOTHOUSE_FETCH_DIGEST=f"sha256:{'0' * 64}", **store.secret
    )
    assert done.words is not None
    assert (done.words.reason, done.words.permanent) == (FailureReason.DIGEST_MISMATCH, True)
    assert digest_of(store.root / "models/minilm/2") in done.words.message
    assert left(done.mount) == []


def test_a_store_that_is_away(tmp_path: Path) -> None:
    with BadServer({}) as server:
        pass
    done = Fetch(tmp_path, "s3://m/weights.bin", ANONYMOUS | {"AWS_ENDPOINT_URL": server.url})
    eventually(lambda: any("next attempt" in line["msg"] for line in done.lines), "another attempt")
    report = done.report()
    done.kill()
    assert report is not None
    assert report.phase is Phase.PULLING
    assert "s3://m/weights.bin" in report.message


def at(server: BadServer, way: str) -> dict[str, str]:
    return ANONYMOUS | {"AWS_ENDPOINT_URL": f"{server.url}/{way}"}


@pytest.mark.parametrize("way", ["flaky", "cut-once", "cut-plain", "short-once"])
def test_a_store_that_is_moody(tmp_path: Path, way: str) -> None:
    with BadServer({"m/weights.bin": BODY}) as server:
        done = fetch(tmp_path, "s3://m/weights.bin", **at(server, way))
        again = [
            {name.lower() for name in headers} for headers in server.requests_of(f"/{way}/m/weights.bin")
        ]
    assert done.words is None, done.text
    assert done.path.read_bytes() == BODY
    if way == "short-once":  # after a reset, what the kernel had not handed over yet is lost
        assert "range" in again[1], "what had come is not fetched anew"


def test_google_s_store_in_its_own_api(tmp_path: Path) -> None:
    with BadServer({"m/weights.bin": BODY}) as server:
        environment = {"GOOGLE_SKIP_SIGNATURE": "true", "GOOGLE_BASE_URL": f"{server.url}/short-once"}
        done = fetch(tmp_path / "1", "gs://m/weights.bin", **environment)
        denied = fetch(
            tmp_path / "2", "gs://m/weights.bin", **environment | {"GOOGLE_BASE_URL": f"{server.url}/403"}
        )
    assert done.path.read_bytes() == BODY, done.text
    assert denied.words is not None
    assert "must name a Secret with GOOGLE_SERVICE_ACCOUNT_KEY" in denied.words.message


def test_an_object_that_is_larger_than_any_disk(tmp_path: Path) -> None:
    with BadServer({"m/weights.bin": BODY}) as server:
        done = fetch(tmp_path, "s3://m/weights.bin", **at(server, "huge"))
    assert done.words is not None
    assert done.words.reason is FailureReason.NO_SPACE
    assert "needs" in done.words.message
    assert "are free on the disk" in done.words.message
    assert left(done.mount) == []


def test_progress_is_told_while_it_comes(tmp_path: Path) -> None:
    with BadServer({"m/weights.bin": BODY}) as server:
        running = Fetch(tmp_path, "s3://m/weights.bin", at(server, "slow"))
        told = set[str]()

        def enough() -> bool:
            report = running.report()
            told.add(report.message if report else "")
            return sum(" of 3.1 MB from s3://m/weights.bin" in message for message in told) >= 2

        eventually(enough, "progress")
        running.kill()
    assert running.words is None


def test_a_silent_store_is_not_waited_for(tmp_path: Path) -> None:
    with BadServer({"m/weights.bin": BODY}) as server:
        running = Fetch(tmp_path, "s3://m/weights.bin", at(server, "stall"))
        eventually(lambda: any("next attempt" in line["msg"] for line in running.lines), "the second attempt")
        running.kill()


def test_nothing_else_is_fetched(tmp_path: Path) -> None:
    done = fetch(tmp_path, "file:///etc/passwd")
    assert done.words is not None
    assert done.words.reason is FailureReason.INVALID_CONFIGURATION
    assert contract.ENV_FETCH_URI in done.words.message
