"""Models from a real registry of images that wants a password: artifacts, images, and bad ones."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilothouse_runtime.contract import FailureReason
from tests.support.badserver import BadServer
from tests.support.fetching import (
    PASSWORD,
    Fetch,
    ImageRegistry,
    digest_of_bytes,
    fetch,
    image_registry,
    left,
    registry_program,
)

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = b"{}"
BODY = bytes(range(256)) * 4_000


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    with image_registry(registry_program(), tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def layer(
    blob: bytes, title: str = "", kind: str = "application/octet-stream", **more: str
) -> dict[str, Any]:
    annotations = {"org.opencontainers.image.title": title, **more} if title else more
    return {"mediaType": kind, "digest": digest_of_bytes(blob), "size": len(blob), "annotations": annotations}


def manifest(*layers: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": digest_of_bytes(EMPTY),
        "size": len(EMPTY),
    }
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers)}


def packed(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return a compressed layer with these files, or whatever else is given for a name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def pulled(registry: ImageRegistry, folder: Path, name: str, config: str = "") -> Fetch:
    environment = {".dockerconfigjson": config or registry.config, "OCI_PLAIN_HTTP": "true"}
    return fetch(folder, f"oci://{registry.host}/{name}", **environment)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_artifact_of_one_file_is_that_file(registry: ImageRegistry, tmp_path: Path) -> None:
    digest = registry.push("models/digits", "2", manifest(layer(BODY, "digits.pt2")), EMPTY, BODY)
    done = pulled(registry, tmp_path, "models/digits:2")
    assert done.words is None, done.text
    assert (done.path.name, done.path.read_bytes()) == ("digits.pt2", BODY)
    assert PASSWORD not in done.told
    exact = pulled(registry, tmp_path / "exact", f"models/digits@{digest}")
    assert exact.path.read_bytes() == BODY, exact.text


def test_an_artifact_of_several_files_is_a_folder(registry: ImageRegistry, tmp_path: Path) -> None:
    files = {"config.json": b"{}!", "deep/weights.bin": BODY}
    layers = [layer(body, name) for name, body in files.items()]
    registry.push("models/minilm", "1", manifest(*layers), EMPTY, *files.values())
    done = pulled(registry, tmp_path, "models/minilm:1")
    assert done.path.name == "minilm", done.text
    assert contents(done.path) == files


def test_a_folder_that_was_packed(registry: ImageRegistry, tmp_path: Path) -> None:
    blob = packed({"model/config.json": b"{}!", "model/weights.bin": BODY})
    unpack = {"io.deis.oras.content.unpack": "true"}
    registry.push("models/packed", "latest", manifest(layer(blob, "model", TAR, **unpack)), EMPTY, blob)
    done = pulled(registry, tmp_path, "models/packed")
    assert done.path.name == "model", done.text
    assert contents(done.path) == {"config.json": b"{}!", "weights.bin": BODY}


def test_an_image_is_its_folder_models(registry: ImageRegistry, tmp_path: Path) -> None:
    first = packed({"etc/passwd": b"root", "models/old.bin": b"old", "models/a.json": b"{}"})
    second = packed(
        {"./models/.wh.old.bin": b"", "./models/weights.bin": BODY, "usr/link": special(tarfile.SYMTYPE, "/")}
    )
    image = manifest(layer(first, kind=TAR), layer(second, kind=TAR))
    digest = registry.push("models/car", "amd64", image, EMPTY, first, second)
    entry = {"mediaType": MANIFEST, "digest": digest, "size": len(json.dumps(image))}
    registry.push("models/car", "1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    done = pulled(registry, tmp_path, "models/car:1")
    assert contents(done.path) == {"a.json": b"{}", "weights.bin": BODY}, done.text


@pytest.mark.parametrize(
    ("name", "files", "told"),
    [
        ("upwards", {"models/../../x": b"x"}, "which is no path below a folder"),
        ("link", {"models/x": special(tarfile.SYMTYPE, "/etc/passwd")}, "which is a link or a device"),
        ("hard", {"models/x": special(tarfile.LNKTYPE, "/etc/passwd")}, "which is a link or a device"),
        ("device", {"models/x": special(tarfile.CHRTYPE)}, "which is a link or a device"),
        ("both", {"models/x": b"", "models/x/y": b""}, "a file in the place of one of its folders"),
        ("bomb", {"models/x": bytes(200_000_000)}, "holds far too much"),
        ("other", {"opt/x": b"x"}, "it holds no model"),
    ],
)
def test_a_bad_image(
    registry: ImageRegistry, tmp_path: Path, name: str, files: dict[str, Any], told: str
) -> None:
    blob = packed(files)
    registry.push(f"bad/{name}", "1", manifest(layer(blob, kind=TAR)), EMPTY, blob)
    done = pulled(registry, tmp_path, f"bad/{name}:1")
    assert done.words is not None
    assert (done.words.reason, done.words.permanent) == (FailureReason.MODEL_DOWNLOAD_FAILED, True)
    assert told in done.words.message
    assert left(done.mount) == []
    assert left(tmp_path) == ["mount", "termination-log"], "nothing was written elsewhere"


def test_a_title_that_leads_out(registry: ImageRegistry, tmp_path: Path) -> None:
    registry.push("bad/title", "1", manifest(layer(BODY, "../../out.pt")), EMPTY, BODY)
    done = pulled(registry, tmp_path, "bad/title:1")
    assert done.words is not None
    assert "which is no path below a folder" in done.words.message
    assert left(tmp_path) == ["mount", "termination-log"]


def test_a_broken_layer(registry: ImageRegistry, tmp_path: Path) -> None:
    blob = packed({"models/x": BODY * 3})[:2000]
    registry.push("bad/cut", "1", manifest(layer(blob, kind=TAR)), EMPTY, blob)
    done = pulled(registry, tmp_path, "bad/cut:1")
    assert done.words is not None
    assert "a layer is a broken archive" in done.words.message


def test_a_tag_that_is_not_there(registry: ImageRegistry, tmp_path: Path) -> None:
    done = pulled(registry, tmp_path, "models/none:1")
    assert done.words is not None
    assert "the registry answered 404 Not Found" in done.words.message
    assert done.words.permanent


@pytest.mark.parametrize("known", [True, False])
def test_who_is_not_let_in(registry: ImageRegistry, tmp_path: Path, known: bool) -> None:
    wrong = {
        "auths": {registry.host if known else "ghcr.io": {"username": "fetcher", "password": "planted-wrong"}}
    }
    done = pulled(registry, tmp_path, "models/digits:2", json.dumps(wrong))
    assert done.words is not None
    assert "the registry answered 401 Unauthorized" in done.words.message
    assert ("names no Secret" in done.words.message) is not known
    assert "planted" not in done.told


def test_what_is_no_registry(tmp_path: Path) -> None:
    with BadServer({}) as server:
        done = fetch(tmp_path, f"oci://{server.url.removeprefix('http://')}/a/b:1", OCI_PLAIN_HTTP="true")
    assert done.words is not None
    assert done.words.reason is FailureReason.MODEL_DOWNLOAD_FAILED
