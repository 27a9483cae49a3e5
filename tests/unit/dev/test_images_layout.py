"""Images in one folder share their layers; archives may leave out what the reader has."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dev.images.errors import ImageError
from dev.images.layout import Layout


class _Writer:
    """Writes images of the given layers, as skopeo would."""

    def __init__(self, root: Path) -> None:
        self._root = root
        (root / "blobs" / "sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._entries: list[dict[str, Any]] = []

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self._root / "blobs" / "sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    def image(self, ref: str, *layers: bytes) -> None:
        config = self.blob(json.dumps({"config": {"User": ref}}).encode())
        manifest = {"config": config, "layers": [self.blob(layer) for layer in layers]}
        entry = self.blob(json.dumps(manifest).encode())
        self._entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": ref}})
        index = {"schemaVersion": 2, "manifests": self._entries}
        (self._root / "index.json").write_text(json.dumps(index))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    writer = _Writer(tmp_path / "layout")
    writer.image("old", b"base", b"torch", b"old code")
    writer.image("new", b"base", b"torch", b"new code")
    return Layout(tmp_path / "layout")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blobs(layout: Layout) -> set[str]:
    return {f"sha256:{blob.name}" for blob in layout.root.glob("blobs/sha256/*")}


def test_it_knows_its_images(layout: Layout) -> None:
    assert layout.refs() == ["old", "new"]
    assert layout.config("new")["config"]["User"] == "new"
    assert layout.size("new") == len(b"basetorchnew code")
    assert [layer.read_bytes() for layer in layout.layers("old")] == [b"base", b"torch", b"old code"]
    assert layout.manifest_digest("old") != layout.manifest_digest("new")


def test_a_folder_that_is_not_there_yet_holds_no_images(tmp_path: Path) -> None:
    assert Layout(tmp_path / "none").refs() == []


def test_an_image_that_is_not_there_is_named(layout: Layout) -> None:
    with pytest.raises(
        ImageError, match=r"holds no image other: build it with `python -m dev\.images build`"
    ):
        layout.config("other")


def test_an_archive_is_a_layout_of_one_image_with_the_name_asked_for(layout: Layout, tmp_path: Path) -> None:
    layout.write_archive("new", tmp_path / "new.tar", "docker.io/a/b:1")
    with tarfile.open(tmp_path / "new.tar") as archive:
        archive.extractall(tmp_path / "read", filter="data")
    read = Layout(tmp_path / "read")
    assert read.refs() == ["docker.io/a/b:1"]
    assert read.manifest_digest("docker.io/a/b:1") == layout.manifest_digest("new")
    assert read.config("docker.io/a/b:1") == layout.config("new")
    assert [layer.read_bytes() for layer in read.layers("docker.io/a/b:1")] == [
        b"base",
        b"torch",
        b"new code",
    ]
    assert (read.root / "oci-layout").read_text() == (layout.root / "oci-layout").read_text()
    assert _digest(b"old code") not in _blobs(read)


def test_an_archive_leaves_out_what_the_reader_has(layout: Layout, tmp_path: Path) -> None:
    layout.write_archive("new", tmp_path / "new.tar", "x", without=[_digest(b"base"), _digest(b"torch")])
    with tarfile.open(tmp_path / "new.tar") as archive:
        names = archive.getnames()
    held = {name.replace("blobs/sha256/", "sha256:") for name in names}
    assert _digest(b"new code") in held
    assert layout.manifest_digest("new") in held
    assert not held & {_digest(b"base"), _digest(b"torch")}


def test_forgetting_an_image_keeps_what_another_needs(layout: Layout) -> None:
    before = _blobs(layout)
    layout.keep(["new"])
    assert layout.refs() == ["new"]
    assert {_digest(b"base"), _digest(b"torch"), _digest(b"new code")} <= _blobs(layout)
    assert _digest(b"old code") in before - _blobs(layout)
    assert len(before - _blobs(layout)) == 3, "manifest, configuration and code of the old image"
