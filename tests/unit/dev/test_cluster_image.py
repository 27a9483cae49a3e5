"""Images that are packed without a container tool."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from dev.cluster.image import write_image


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def test_the_image_holds_the_program_and_starts_it_without_privileges(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF program")
    write_image(program, "localhost/test/pause:1", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as image:
        (manifest,) = json.loads(_member(image, "manifest.json"))
        config: dict[str, Any] = json.loads(_member(image, manifest["Config"]))
        (layer_name,) = manifest["Layers"]
        layer = _member(image, layer_name)
    assert manifest["RepoTags"] == ["localhost/test/pause:1"]
    assert config["config"]["Entrypoint"] == ["/pause"]
    assert config["config"]["User"].split(":")[0] != "0"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        (entry,) = files.getmembers()
        assert entry.mode == 0o755
        assert _member(files, "pause") == b"\x7fELF program"


def test_the_same_program_makes_the_same_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    for name in ("one.tar", "two.tar"):
        write_image(program, "localhost/test/pause:1", tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
