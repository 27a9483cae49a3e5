"""Disks that are full, and models that pods share on one. The full ones are real: small file systems in memory."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason
from tests.support.badserver import BadServer
from tests.support.fetching import Fetch, fetch, left
from tests.support.runtime_process import eventually

BODY = bytes(range(256)) * 12_000  # 3 MB
DIGEST = hashlib.sha256(BODY).hexdigest()
ASKED = {contract.ENV_FETCH_DIGEST: f"sha256:{DIGEST}"}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB. Mounting needs root, as the embedded cluster does."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("way", ["good", "lengthless"])
def test_a_model_that_does_not_fit(small: Path, way: str) -> None:
    with BadServer({"m.pt": BODY}) as server:
        url = f"{server.url}/{way}/m.pt"
        done = fetch(small, url)
        assert done.words is not None
        assert (done.words.reason, done.words.permanent) == (FailureReason.NO_SPACE, False)
        assert done.words.message.startswith(str(done.mount))
        assert "are free on the disk below it" in done.words.message
        if way == "good":
            assert "needs 3.1 MB more, and 2.1 MB are free" in done.words.message
        assert left(done.mount) == []
        server.files["m.pt"] = BODY[:1_000_000]
        assert fetch(small, url).path.read_bytes() == BODY[:1_000_000], "room that was taken is free again"


def sharing(folder: Path, **more: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    return ASKED | {contract.ENV_FETCH_CACHE: str(folder)} | more


def test_pods_that_start_together_download_once(tmp_path: Path) -> None:
    environment = sharing(tmp_path / "shared")
    with BadServer({"m.pt": BODY}) as server:
        url = f"{server.url}/slow/m.pt"
        pods = [Fetch(tmp_path / str(number), url, environment) for number in range(3)]
        assert [pod.wait() for pod in pods] == [0, 0, 0]
        assert server.counts["/slow/m.pt"] == 1
    assert all(pod.path.read_bytes() == BODY for pod in pods)
    assert sum("waiting for it" in pod.text for pod in pods) == 2
    assert f"sha256-{DIGEST}/m.pt" in left(tmp_path / "shared")


def test_who_waits_goes_on_when_the_first_one_dies(tmp_path: Path) -> None:
    environment = sharing(tmp_path / "shared")
    with BadServer({"m.pt": BODY}) as server:
        first = Fetch(tmp_path / "1", f"{server.url}/stall/m.pt", environment)
        eventually(lambda: left(first.mount), "its beginning")
        second = Fetch(tmp_path / "2", f"{server.url}/good/m.pt", environment)
        eventually(lambda: "waiting for it" in second.text, "the other one to wait")
        first.kill()
        assert second.wait() == 0
    assert second.path.read_bytes() == BODY


@pytest.mark.parametrize("damage", ["other bytes", "nothing", "a link to nowhere"])
def test_a_damaged_entry_costs_a_download_and_no_more(tmp_path: Path, damage: str) -> None:
    environment = sharing(tmp_path / "shared")
    with BadServer({"m.pt": BODY}) as server:
        url = f"{server.url}/good/m.pt"
        fetch(tmp_path / "1", url, **environment)
        entry = tmp_path / "shared" / f"sha256-{DIGEST}/m.pt"
        entry.unlink()
        if damage == "other bytes":
            entry.write_bytes(b"rotten")
        elif damage == "a link to nowhere":
            entry.symlink_to("nowhere")
        second = fetch(tmp_path / "2", url, **environment)
        assert second.path.read_bytes() == entry.read_bytes() == BODY
        assert server.counts["/good/m.pt"] == 2


def test_models_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    environment = sharing(tmp_path / "shared", PILOTHOUSE_FETCH_CACHE_BYTES="7000000")
    (tmp_path / "shared" / f"part-{'5' * 64}").mkdir()  # somebody died half way
    bodies = {f"{number}.pt": bytes([number]) + BODY for number in range(3)}
    with BadServer(bodies) as server:
        for turn, name in enumerate(("0.pt", "1.pt", "0.pt", "2.pt")):
            digest = hashlib.sha256(bodies[name]).hexdigest()
            asked = environment | {contract.ENV_FETCH_DIGEST: f"sha256:{digest}"}
            assert fetch(tmp_path / f"{turn}", f"{server.url}/good/{name}", **asked).words is None
    kept = [path for path in left(tmp_path / "shared") if path.endswith(".pt")]
    assert sorted(path.rpartition("/")[2] for path in kept) == ["0.pt", "2.pt"]
    assert not any(path.startswith("part-") for path in left(tmp_path / "shared"))


def test_a_copy_that_does_not_fit(small: Path, tmp_path: Path) -> None:
    environment = sharing(tmp_path / "shared")
    folder = tmp_path / "shared" / f"sha256-{DIGEST}" / "model"
    folder.mkdir(parents=True)
    (folder / "m.pt").write_bytes(BODY)
    with BadServer({"m.pt": BODY}) as server:
        done = fetch(small, f"{server.url}/good/m.pt", **environment)
    assert done.words is not None
    assert done.words.reason is FailureReason.NO_SPACE
    assert left(done.mount) == []
    assert (folder / "m.pt").exists(), "the entry is not to blame"


def test_a_cache_that_is_full_or_away_is_gone_without(small: Path, tmp_path: Path) -> None:
    with BadServer({"m.pt": BODY}) as server:
        url = f"{server.url}/good/m.pt"
        full = fetch(tmp_path / "1", url, **sharing(small))
        away = fetch(tmp_path / "2", url, **ASKED, PILOTHOUSE_FETCH_CACHE=str(tmp_path / "none"))
    assert full.path.read_bytes() == away.path.read_bytes() == BODY
    assert [path for path in left(small) if not path.endswith(".lock")] == []
    assert "is not kept in the cache: there is no room" in full.text
    assert "is not used: No such file or directory" in away.text
