"""The image with a compiler does what it is for: it compiles a model and serves it, as nobody on a read-only root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from dev.images import Image, build
from tests.support.runtime_process import PATIENCE, runtime
from tests.support.tiny_models import save_affine

LONG = 600.0  # seconds; a compiler on a machine that is busy

# Stands in for an interpreter: runs the image's own with a folder of this machine, which alone is writable beside /tmp.
_PYTHON = """#!/bin/sh
set -eu
exec unshare --mount sh -c '
root=$1; folder=$2; user=$3; shift 3
mount --bind "$root" "$root"
mount --types tmpfs --options mode=1777 tmpfs "$root/tmp"
mkdir -p "$root$folder"
mount --bind "$folder" "$root$folder"
mount --types proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --options remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" env -i $(env | grep ^PILOTHOUSE_) "$@"
' sh {root} {folder} {settings} python "$@"
"""


@pytest.fixture(scope="module")
def image() -> Image:
    (image,) = build("runtime-compile")  # minutes, the first time
    return image


@pytest.fixture
def root(image: Image) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for layer in image.layout.layers(image.ref):
            subprocess.run(["tar", "-C", folder, "-xf", layer], check=True)
        yield Path(folder)


def test_a_model_is_compiled_and_served(image: Image, root: Path, tmp_path: Path) -> None:
    settings = image.layout.config(image.ref)["config"]
    assert settings["User"] == "65532:65532"
    folder = tmp_path / "given"
    folder.mkdir()
    save_affine(folder / "affine.pt2")
    folder.chmod(0o777)
    python = tmp_path / "python"
    python.write_text(
        _PYTHON.format(root=root, folder=folder, settings=" ".join([settings["User"], *settings["Env"]]))
    )
    python.chmod(0o755)
    with runtime(folder, f"file://{folder}/affine.pt2", python, OPTIMIZE="compile") as process:
        process.wait_ready(LONG)
        assert "the model is run as compile" in str(process.lines)
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
        answer = httpx.post(
            f"{process.url}/v2/models/tiny/infer", json={"inputs": [tensor]}, timeout=PATIENCE
        )
        assert answer.raise_for_status().json()["outputs"][0]["data"] == [14.5, 1.5]
        process.terminate()
        assert process.wait() == 0
