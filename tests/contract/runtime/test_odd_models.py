"""The odd models in the real server: ready like any other, and each wrong in its own way only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from examples.digits.client import Client, Tally, send
from examples.digits.train import split
from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from tests.support import odd_models
from tests.support.runtime_process import RuntimeProcess, runtime, validate

GOLDEN = "golden.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The odd models, and 200 held-out digits as a golden data set."""
    folder = tmp_path_factory.mktemp("odd")
    odd_models.write(folder)
    _, _, images, labels = split()
    np.savez(folder / GOLDEN, **{"input.image": images[:200].numpy(), "output.logits": labels[:200].numpy()})
    return folder


@contextlib.contextmanager
def served(folder: Path, tmp_path: Path, name: str) -> Iterator[RuntimeProcess]:
    with runtime(tmp_path, f"file://{folder / name}") as process:
        process.wait_ready()
        yield process


def asked(process: RuntimeProcess, rows: int, requests: int) -> Tally:
    """Send the first held-out digits, in so many requests of the same size, with the example's client."""
    tally = Tally()
    client = Client(process.url, "tiny")
    _, _, images, labels = split()
    for start in range(0, rows, rows // requests):
        batch = slice(start, start + rows // requests)
        send(client, tally, images[batch].numpy(), labels[batch].numpy())
    client.close()
    return tally


@pytest.mark.parametrize(
    ("name", "least", "most"), [(odd_models.RETRAINED, 0.93, 1), (odd_models.WRONG, 0, 0.05)]
)
def test_one_is_as_good_as_the_examples_and_one_is_sure_and_wrong(
    folder: Path, tmp_path: Path, name: str, least: float, most: float
) -> None:
    with served(folder, tmp_path, name) as process:
        tally = asked(process, rows=200, requests=200)
        ended = validate(tmp_path, f"file://{folder / GOLDEN}", process.url)
    summary = tally.summary()
    assert summary["failed"] == 0
    assert least <= summary["versions"]["1"]["accuracy"] <= most
    assert ended.report is not None
    assert ended.report.value == pytest.approx(summary["versions"]["1"]["accuracy"], abs=0.011)


def test_one_is_right_and_slow(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path, odd_models.SLOW) as process:
        tally = asked(process, rows=200, requests=2)
        page = httpx.get(process.url + contract.METRICS_PATH).text
    assert tally.summary()["versions"]["1"]["accuracy"] > 0.93
    # Half a second on the slow cores that it was made for; a healthy model takes a few milliseconds.
    assert f'{contract.METRIC_REQUEST_SECONDS}_bucket{{le="0.15"}} 0.0\n' in page
    assert f"{contract.METRIC_REQUEST_SECONDS}_count 2.0\n" in page


def test_one_fails_on_a_share_of_the_requests(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path, odd_models.ERRORING) as process:
        tally = asked(process, rows=200, requests=200)
        page = httpx.get(process.url + contract.METRICS_PATH).text
        ended = validate(tmp_path, f"file://{folder / GOLDEN}", process.url)
    failed = sum(tally.failures.values())
    assert 70 < failed < 130
    # An error raised in TorchScript is the model's: 500 in the answer as in the metrics, in its own words.
    assert all("HTTP 500" in why and "dazzled by a bright image" in why for why in tally.failures)
    assert f'{contract.METRIC_REQUESTS}{{code="500"}} {failed}.0\n' in page
    assert f'{contract.METRIC_REQUESTS}{{code="200"}} {200 - failed}.0\n' in page
    assert f"{contract.METRIC_REQUEST_SECONDS}_count 200.0\n" in page
    assert tally.right["1"] / tally.rows["1"] > 0.9
    assert ended.words is not None
    assert (ended.words.reason, ended.words.permanent) == (FailureReason.VALIDATION_FAILED, True)
    assert "it answered 500" in ended.words.message
    assert "dazzled by a bright image" in ended.words.message
