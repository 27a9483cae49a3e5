"""Samples that a real server writes to a real S3-compatible store that wants a key, and to one that is of no use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.runtime.test_sampling import counted, infer
from tests.support import azure_access
from tests.support.badserver import BadServer
from tests.support.blob_store import BlobStore, SignIn
from tests.support.fetching import SECRET, ObjectStore, object_store
from tests.support.runtime_process import RuntimeProcess, eventually, runtime
from tests.support.tiny_models import save_affine

URI = "s3://samples/digits/prod/"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    root = tmp_path_factory.mktemp("store")
    (root / "samples").mkdir()
    with object_store(root, root.with_name("store.log")) as store:
        yield store


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs a server with samples of all requests, and a Secret as its environment."""
    model = save_affine(tmp_path / "affine.pt2")

    def serve(secret: dict[str, str], **settings: str) -> Any:
        for name, value in secret.items():
            monkeypatch.setenv(name, value)
        given = {"SAMPLING_RATE": "1", "SAMPLING_URI": URI, "SAMPLING_PER_MINUTE": "1000", **settings}
        return runtime(tmp_path, f"file://{model}", **given)

    return serve


def objects(store: ObjectStore | SignIn) -> list[list[dict[str, Any]]]:
    files = sorted(path for path in (store.root / "samples").rglob("*") if path.is_file())
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def lost(process: RuntimeProcess) -> list[str]:
    return [line["msg"] for line in process.lines if "samples" in line["msg"]]


def nothing_is_told(process: RuntimeProcess, *secrets: str) -> None:
    """Assert that no secret is in the log, the termination log or an answer."""
    log = process.termination_log
    told = json.dumps(process.lines) + (log.read_text() if log.exists() else "")
    assert not [secret for secret in secrets if secret in told]


def test_objects_are_full_and_the_last_is_written_at_the_end(store: ObjectStore, serving: Any) -> None:
    with serving(store.secret, SAMPLING_MAX_BYTES="2000", LOG_LEVEL="DEBUG") as process:
        process.wait_ready()
        assert {infer(process, str(number)) for number in range(40)} == {200}
        eventually(lambda: counted(process)["written"] > 20, "what objects had room for is written")
        before = [sample for kept in objects(store) for sample in kept]
        assert 20 < len(before) < 40
        process.terminate()
        assert process.wait() == 0
    kept = objects(store)
    samples = [sample for one in kept for sample in one]
    assert [int(sample["id"]) for sample in samples] == list(range(40))
    assert samples[0]["outputs"][0]["data"] == [14.5, 1.5]
    names = list((store.root / "samples").rglob("*.jsonl"))
    assert all(path.stat().st_size <= 2000 for path in names)
    assert all(path.relative_to(store.root).parts[:3] == ("samples", "digits", "prod") for path in names)
    assert lost(process) == []
    nothing_is_told(process, SECRET)


def test_a_wrong_key_costs_no_answer_and_is_told_once(store: ObjectStore, serving: Any) -> None:
    planted = "planted-but-wrong"
    secret = store.secret | {"AWS_SECRET_ACCESS_KEY": planted}
    with serving(secret, SAMPLING_MAX_BYTES="500") as process:
        process.wait_ready()
        assert {infer(process, str(number)) for number in range(20)} == {200}
        eventually(lambda: counted(process)["dropped"] >= 10, "they are dropped")
        assert counted(process)["written"] == 0
        process.terminate()
        assert process.wait() == 0
    (told,) = lost(process)
    assert told.startswith(f"samples cannot be written to {URI}: the store answered 403 Forbidden")
    assert "runtime.sampling.secretName must name a Secret with AWS_ACCESS_KEY_ID" in told
    nothing_is_told(process, planted, SECRET)


def test_a_signature_for_azure_that_may_create_and_nothing_else(tmp_path: Path, serving: Any) -> None:
    token = azure_access.sas("samples", may="c")
    (tmp_path / "blobs/samples").mkdir(parents=True)
    with BlobStore(tmp_path / "blobs") as blobs:
        store = blobs.ways["sas"]
        secret = store.secret | {"AZURE_STORAGE_SAS_TOKEN": token}
        with serving(secret, SAMPLING_URI="az://samples/digits/prod/", LOG_LEVEL="DEBUG") as process:
            process.wait_ready()
            assert {infer(process, str(number)) for number in range(5)} == {200}
            process.terminate()
            assert process.wait() == 0
    [samples] = objects(store)
    assert [int(sample["id"]) for sample in samples] == list(range(5))
    assert lost(process) == []
    nothing_is_told(process, token, azure_access.signature_in(token))


def test_a_store_that_is_away_costs_no_answer_and_holds_up_no_end(serving: Any) -> None:
    with BadServer({}) as away:
        pass
    secret = {"AWS_ENDPOINT_URL": away.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET}
    with serving(
        secret, SAMPLING_MAX_BYTES="500", DRAIN_DELAY_SECONDS="0", DRAIN_TIMEOUT_SECONDS="5"
    ) as process:
        process.wait_ready()
        assert {infer(process, str(number)) for number in range(20)} == {200}
        eventually(lambda: counted(process)["dropped"] > 0, "some are dropped")
        process.terminate()
        assert process.wait() == 0
    assert lost(process)[0].startswith(f"samples cannot be written to {URI}: ")
    nothing_is_told(process, SECRET)
