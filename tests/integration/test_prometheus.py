"""A real runtime measured twice: by what it tells itself, and by a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

from dev.cluster import binaries, debian
from pilothouse.metrics.sampler import http_sampler
from pilothouse.plan.samples import Ask, Samples, Source
from pilothouse.plan.seen import Key
from pilothouse_runtime import contract
from tests.support.runtime_process import RuntimeProcess, runtime
from tests.support.tiny_models import save_mixer
from tests.support.waiting import eventually, until

KEY = Key("vision", "digits")
REVISION = "digits-0123456789"
GOOD, BAD = 20, 5


@pytest.fixture(scope="session")
def program() -> Path:
    """Debian's Prometheus, unpacked into the cache and not installed."""
    folder = binaries.cached().debian.parents[1] / "prometheus" / debian.SUITE
    folder.parent.mkdir(parents=True, exist_ok=True)

    def unpack(work: Path) -> None:
        archive = debian.Archive(work)
        archive.update()
        archive.unpack(["prometheus"], work / "result")

    with (folder.parent / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        binaries.make(folder, unpack)
    return folder / "usr/bin/prometheus"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """A runtime of `REVISION` that has answered `GOOD` requests well and refused `BAD`."""
    folder = tmp_path_factory.mktemp("runtime")
    model = save_mixer(folder / "mixer.pt2")
    with runtime(folder, f"file://{model}", REVISION=REVISION) as process:
        process.wait_ready()
        for _ in range(GOOD):
            assert (
                infer(process, {"values": ("FP32", [1, 2], [1.0, 2.0]), "counts": ("INT64", [1], [3])}) == 200
            )
        for _ in range(BAD):
            assert infer(process, {}) == 400
        yield process


def infer(process: RuntimeProcess, inputs: dict[str, tuple[str, list[int], list[float]]]) -> int:
    """Send one request and return the status of its answer."""
    tensors = [
        {"name": name, "datatype": datatype, "shape": shape, "data": data}
        for name, (datatype, shape, data) in inputs.items()
    ]
    body = json.dumps({"inputs": tensors}).encode()
    request = urllib.request.Request(f"{process.url}/v2/models/tiny/infer", body, method="POST")  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - ours
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture(scope="module")
def prometheus(
    program: Path,
    server: RuntimeProcess,
    unused_tcp_port_factory: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the runtime often."""
    folder = tmp_path_factory.mktemp("prometheus")
    scraped = {"job_name": "models", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [scraped]}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    address = f"127.0.0.1:{unused_tcp_port_factory()}"
    command = [
        str(program),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    try:
        until(ready, what=lambda: "Prometheus is ready")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=60)


async def asked(url: str, **queries: str) -> Samples:
    """Ask Prometheus, and nobody else, as an analysis would."""
    async with http_sampler(url, lambda: datetime.now(UTC)) as sampler:
        return await sampler.sample(KEY, Ask(datetime.now(UTC), {}, queries))


async def test_the_runtime_and_prometheus_tell_the_same(server: RuntimeProcess, prometheus: str) -> None:
    total = f"sum({contract.METRIC_REQUESTS})"

    async def scraped() -> bool:
        return (await asked(prometheus, total=total)).answers == {"total": GOOD + BAD}

    await eventually(scraped)
    since = datetime.now(UTC) - timedelta(minutes=10)
    pod = Source("uid", "127.0.0.1", created=since)
    refused = f'sum({contract.METRIC_REQUESTS}{{code="400"}})'
    queries = {
        "refused": refused,
        "share": f"{refused} / {total}",
        "scalar": f"scalar({total})",
        "slow": f"histogram_quantile(0.8, {contract.METRIC_REQUEST_SECONDS}_bucket)",
    }
    async with http_sampler(prometheus, lambda: datetime.now(UTC), port=server.port) as sampler:
        samples = await sampler.sample(KEY, Ask(since, {REVISION: (pod,)}, queries))
    traffic = samples.traffic[REVISION]
    assert (traffic.requests, traffic.errors) == (GOOD + BAD, 0)
    slow = traffic.quantile(0.8)
    assert samples.answers == {
        "refused": BAD,
        "share": BAD / (GOOD + BAD),
        "scalar": GOOD + BAD,
        "slow": pytest.approx(slow),
    }


async def test_queries_that_come_to_no_one_number_are_left_out(prometheus: str) -> None:
    async def scraped() -> bool:
        return (await asked(prometheus, up="up")).answers == {"up": 1.0}

    await eventually(scraped)
    samples = await asked(
        prometheus,
        nothing="no_such_metric",
        several=contract.METRIC_REQUESTS,
        nan="0 / 0 * vector(1)",
        matrix="up[1m]",
        text='"words"',
        syntax="sum(",
        infinite="vector(1) / 0",
    )
    assert samples.answers == {"infinite": float("inf")}


async def test_another_revision_at_the_address_is_none_of_ours(server: RuntimeProcess) -> None:
    now = datetime.now(UTC)
    pod = Source("uid", "127.0.0.1", created=now)
    async with http_sampler("", lambda: now, port=server.port) as sampler:
        assert (await sampler.sample(KEY, Ask(now, {"digits-other": (pod,)}))).traffic == {}
