"""Drift as a real server shows it, by requests that are like the golden data set, and by others."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilothouse.api.parse import parse
from pilothouse.plan.template import Defaults, pod_template
from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from pilothouse_runtime.core.tensors import Array
from pilothouse_runtime.digests import digest_of
from tests.support.fetching import SECRET, Fetch, ObjectStore, left, object_store
from tests.support.runtime_process import PATIENCE, RuntimeProcess, eventually, runtime
from tests.support.spec_strategies import model_deployment
from tests.support.tiny_models import save_affine

INFER = "/v2/models/tiny/infer"


def save_golden(path: Path, rows: int = 400) -> Path:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    np.savez(path, **{"input.x": x})
    return path


def send(process: RuntimeProcess, x: Array) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    assert httpx.post(process.url + INFER, json={"inputs": [tensor]}, timeout=PATIENCE).status_code == 200


def index(process: RuntimeProcess) -> dict[str, float]:
    page = httpx.get(f"{process.url}/metrics").text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    told = {
        sample.labels["column"]: sample.value for sample in samples if sample.name == contract.METRIC_DRIFT
    }
    (rows,) = [sample.value for sample in samples if sample.name == contract.METRIC_DRIFT_ROWS]
    return told | {"rows": rows}


def test_drift_is_seen(tmp_path: Path) -> None:
    model, golden = save_affine(tmp_path / "affine.pt2"), save_golden(tmp_path / "golden.npz")
    rng = np.random.default_rng(3)
    with runtime(tmp_path, f"file://{model}", DRIFT_PROFILE=f"file://{golden}") as process:
        process.wait_ready()

        def sent(rows: int, shift: float) -> bool:
            send(process, (rng.normal(size=(32, 3)) + np.array([0, 0, shift])).astype(np.float32))
            return index(process)["rows"] >= rows

        eventually(lambda: sent(640, 0), "enough rows seen")
        told = index(process)
        assert told.keys() == {"[0]", "[1]", "[2]", "rows"}
        assert max(told["[0]"], told["[1]"], told["[2]"]) < 0.25
        eventually(lambda: sent(1280, 3), "other rows seen")
        told = index(process)
        assert told["[2]"] > 0.25 > told["[0]"]


def test_nothing_is_told_where_it_is_off(tmp_path: Path) -> None:
    model = save_affine(tmp_path / "affine.pt2")
    with runtime(tmp_path, f"file://{model}") as process:
        process.wait_ready()
        assert contract.METRIC_DRIFT not in httpx.get(f"{process.url}/metrics").text


def other_names() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{"input.z": np.zeros((200, 3), np.float32)})
    return file.getvalue()


_UNUSABLE = "InvalidConfiguration"


@pytest.mark.parametrize(
    ("content", "settings", "reason", "told"),
    [
        (
            None,
            {},
            "ModelDownloadFailed",
            "runtime.drift: .*golden.npz: No such file or directory; check runtime.drift.uri",
        ),
        (b"no data", {}, _UNUSABLE, "runtime.drift: the data set is no .npz file but a text file"),
        (other_names(), {}, _UNUSABLE, "runtime.drift: the data set has input.z; the model has x"),
        (
            other_names(),
            {"DRIFT_DIGEST": f"sha256:{64 * '0'}"},
            "DigestMismatch",
            "runtime.drift: the file has sha256:",
        ),
        (other_names(), {"WORKERS": "2"}, _UNUSABLE, "PILOTHOUSE_DRIFT_PROFILE: needs one process"),
    ],
    ids=["none", "text", "another model's", "digest", "workers"],
)
def test_a_data_set_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, settings: dict[str, str], reason: str, told: str
) -> None:
    model, golden = save_affine(tmp_path / "affine.pt2"), tmp_path / "golden.npz"
    if content is not None:
        golden.write_bytes(content)
    with runtime(tmp_path, f"file://{model}", DRIFT_PROFILE=f"file://{golden}", **settings) as process:
        assert process.wait() == 1
        words = process.last_words()
    assert words is not None
    assert (words.reason, words.permanent) == (FailureReason(reason), True)
    assert re.search(told, words.message), words.message


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store with a data set in the bucket `data`."""
    root = tmp_path_factory.mktemp("store")
    (root / "data").mkdir()
    save_golden(root / "data" / "golden.npz")
    with object_store(root, root.with_name("store.log")) as store:
        yield store


class Pod:
    """The containers of a pod as the operator makes it, with a model in the image and a data set in the store."""

    def __init__(self, model: Path, uri: str, digest: str | None) -> None:
        drift = {"uri": uri} | ({"digest": digest} if digest else {})
        asked = {"model": {"uri": f"file://{model}", "secretName": "store"}, "runtime": {"drift": drift}}
        template = pod_template("tiny", "tiny-1", parse(model_deployment(asked)), Defaults("runtime:1"))
        [init], [container] = template["spec"]["initContainers"], template["spec"]["containers"]
        self.fetch = {item["name"]: item["value"] for item in init["env"]}
        self.serve = {
            item["name"].removeprefix(contract.ENV_PREFIX): item["value"]
            for item in container["env"]
            if item["name"] not in (contract.ENV_MODEL_NAME, contract.ENV_MODEL_URI)
        }


def test_a_data_set_that_was_fetched(store: ObjectStore, tmp_path: Path) -> None:
    model = save_affine(tmp_path / "affine.pt2")
    pod = Pod(model, "s3://data/golden.npz", digest_of(store.root / "data/golden.npz"))
    brought = Fetch(tmp_path / "fetch-drift", pod.fetch["PILOTHOUSE_FETCH_URI"], pod.fetch | store.secret)
    assert brought.wait() == 0, brought.text
    (tmp_path / "drift").symlink_to(brought.mount)
    with runtime(tmp_path, f"file://{model}", **pod.serve) as process:
        process.wait_ready()
        rng = np.random.default_rng(3)

        def enough() -> bool:
            send(process, rng.normal(size=(32, 3)).astype(np.float32))
            return index(process)["rows"] >= 128

        eventually(enough, "enough rows seen")
        assert index(process).keys() == {"[0]", "[1]", "[2]", "rows"}


@pytest.mark.parametrize(
    ("uri", "digest", "secret", "reason", "told"),
    [
        (
            "s3://data/none.npz",
            None,
            {},
            "ModelDownloadFailed",
            "s3://data/none.npz: there is no such object",
        ),
        (
            "s3://data/golden.npz",
            None,
            {"AWS_SECRET_ACCESS_KEY": "planted-but-wrong"},
            "ModelDownloadFailed",
            "s3://data/golden.npz: the store answered 403 Forbidden",
        ),
        ("s3://data/golden.npz", f"sha256:{64 * '0'}", {}, "DigestMismatch", "the file has sha256:"),
    ],
    ids=["none", "key", "digest"],
)
def test_a_data_set_that_cannot_be_fetched(
    store: ObjectStore,
    tmp_path: Path,
    uri: str,
    digest: str | None,
    secret: dict[str, str],
    reason: str,
    told: str,
) -> None:
    pod = Pod(tmp_path / "affine.pt2", uri, digest)
    failed = Fetch(tmp_path, uri, pod.fetch | store.secret | secret)
    assert failed.wait() == 1
    assert failed.words is not None
    assert (failed.words.reason, failed.words.permanent) == (FailureReason(reason), True)
    assert failed.words.message.startswith(f"runtime.drift: {told}")
    assert left(failed.mount) == []
    assert SECRET not in failed.told


def test_a_data_set_on_a_claim(tmp_path: Path) -> None:
    model = save_affine(tmp_path / "affine.pt2")
    (tmp_path / "drift").mkdir()
    save_golden(tmp_path / "drift" / "golden.npz")
    with runtime(tmp_path, f"file://{model}", DRIFT_PROFILE="pvc://data/golden.npz") as process:
        process.wait_ready()
        assert index(process) == {"rows": 0}
