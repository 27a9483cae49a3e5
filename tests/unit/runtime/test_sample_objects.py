"""Samples as objects of a store: what makes one, what they are called, and what becomes of those that are refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from obstore.store import LocalStore

from pilothouse_runtime.core.errors import LoadError
from pilothouse_runtime.serve.sample_files import LostError
from pilothouse_runtime.serve.sample_objects import SampleObjects, store_of
from tests.support.waiting import until

URI = "s3://bucket/two%20words/"
LINE = b'{"id": 1}\n'


def target(folder: Path, name: str = "pod", most: int = 1000, interval: float = 60) -> SampleObjects:
    return SampleObjects(URI, LocalStore(folder, mkdir=True), name, most, interval)


def objects(folder: Path) -> dict[str, bytes]:
    """Return what is in the store, in the order in which it was written by one pod."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_lines_are_one_object_until_there_is_no_room(tmp_path: Path) -> None:
    kept = target(tmp_path, most=25)
    assert kept.wait() is None
    assert [kept.add(LINE) for _ in range(5)] == [0, 0, 2, 0, 2]
    assert kept.flush() == 1
    assert kept.flush() == 0
    assert list(objects(tmp_path).values()) == [2 * LINE, 2 * LINE, LINE]


def test_lines_are_one_object_until_its_time_is_over(tmp_path: Path) -> None:
    kept = target(tmp_path, interval=0.05)
    assert kept.add(LINE) == 0
    assert 0 <= (kept.wait() or 0) <= 0.05
    until(lambda: kept.wait() == 0, every=0.01)
    assert kept.add(2 * LINE) == 1
    assert list(objects(tmp_path).values()) == [LINE]


def test_a_line_that_no_object_has_room_for(tmp_path: Path) -> None:
    kept = target(tmp_path, most=len(LINE))
    with pytest.raises(LostError, match="is more than the 10 of an object") as caught:
        kept.add(LINE + b"\n")
    assert caught.value.lines == 1
    assert kept.add(LINE) == 0
    assert kept.flush() == 1


def test_pods_and_starts_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "one", "two"):
        kept = target(tmp_path, name, most=len(LINE))
        for _ in range(3):
            kept.add(LINE)
        kept.flush()
    names = list(objects(tmp_path))
    assert len(names) == 9
    assert all(name.startswith("two words/20") and name.endswith(".jsonl") for name in names)
    assert [name.split("-")[-2] for name in names] == ["one"] * 6 + ["two"] * 3


def test_what_is_lost_is_counted_and_what_comes_next_is_not(tmp_path: Path) -> None:
    kept = target(tmp_path, most=25)
    (tmp_path / "two words").write_text("a file in the place of the folder")
    kept.add(LINE)
    kept.add(LINE)
    with pytest.raises(LostError) as caught:
        kept.add(LINE)
    assert caught.value.lines == 2
    (tmp_path / "two words").unlink()
    assert kept.flush() == 1
    assert list(objects(tmp_path).values()) == [LINE]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A store at AWS_ENDPOINT_URL that has no time for the first two requests; yields what was sent to it."""
    sent: list[bytes] = []

    class Busy(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(sent) < 3 else 200)
            self.send_header("Content-Length", "0")
            self.send_header("ETag", '"1"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        yield sent
        server.shutdown()


def test_a_store_that_is_busy_is_asked_again(busy: list[bytes]) -> None:
    kept = SampleObjects(URI, store_of(URI, os.environ), "pod", 1000)
    kept.add(LINE)
    assert kept.flush() == 1
    assert busy == [LINE] * 3


def test_a_store_that_cannot_be_made_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", "planted, and no JSON")
    with pytest.raises(LoadError, match=r"PILOTHOUSE_SAMPLING_URI: .*the Secret needs GOOGLE_") as caught:
        store_of("gs://bucket/", {"GOOGLE_SERVICE_ACCOUNT_KEY": "planted, and no JSON"})
    assert "planted" not in caught.value.message
