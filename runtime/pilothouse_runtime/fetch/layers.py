"""Models in OCI artifacts (files with names, as `oras push` makes them) and in images (the folder /models)."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime.fetch.job import MOST_FILES, Job, safe_place
from pilothouse_runtime.fetch.registry import Registry, parse_reference

_TITLE: Final = "org.opencontainers.image.title"
_UNPACK: Final = "io.deis.oras.content.unpack"
MODELS: Final = "models/"  # the folder of an image that is the model, as KServe's "modelcars" have it
_WHITEOUT: Final = ".wh."  # OCI image specification, "Whiteouts"
_OPAQUE: Final = ".wh..wh..opq"
_EXPANSION: Final = 20  # times the size of a compressed layer; weights hardly shrink
_SMALL: Final = 64 * 1024 * 1024  # bytes; what any layer may expand to


def fetch_oci(job: Job) -> str:
    """Fetch what an oci:// uri names, and return "". Raises LoadError.

    What is one file is a file; one folder alone is that folder.
    """
    reference = parse_reference(job)
    registry = Registry(job, reference)
    layers: list[dict[str, Any]] = [
        layer for layer in registry.manifest()["layers"] if isinstance(layer, dict)
    ]
    job.expect(int(layer.get("size") or 0) for layer in layers)
    folder = job.into / reference.name.rpartition("/")[2]
    folder.mkdir()
    titled = [layer for layer in layers if _title(layer)]
    for layer in titled or layers:
        _bring(job, registry, layer, folder)
    found = list(folder.iterdir())
    if not found:
        raise job.refuse(
            "it holds no model: neither files with names (oras push) nor, as an image, a folder /models"
        )
    if len(found) == 1:
        alone = found[0].rename(job.into / "alone")
        folder.rmdir()
        alone.rename(job.into / found[0].name)
    return ""


def _title(layer: Mapping[str, Any]) -> str:
    return str((layer.get("annotations") or {}).get(_TITLE, ""))


def _bring(job: Job, registry: Registry, layer: Mapping[str, Any], folder: Path) -> None:
    title = _title(layer)
    annotations = layer.get("annotations") or {}
    if title and annotations.get(_UNPACK) != "true":
        registry.blob(layer, safe_place(job, folder, title))
        return
    if "zstd" in str(layer.get("mediaType")):
        raise job.refuse("a layer is compressed with zstd, which is not read; use gzip")
    archive = job.into.with_name("layer.part")
    try:
        registry.blob(layer, archive)
        job.say(f"unpacking a layer of {job.uri}")
        _unpack(job, archive, folder, "" if title else MODELS)
    finally:
        archive.unlink(missing_ok=True)


def _unpack(job: Job, archive: Path, folder: Path, below: str) -> None:
    """Unpack the files whose names begin with `below`, without that."""
    left = max(_SMALL, _EXPANSION * archive.stat().st_size)
    count = 0
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix("/")
                if not name.startswith(below) or member.isdir():
                    continue
                left -= member.size
                count += 1
                if left < 0 or count > MOST_FILES:
                    raise job.refuse(f"a layer of {archive.stat().st_size:,} bytes holds far too much")
                _put(job, tar, member, folder, name.removeprefix(below))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise job.refuse(f"a layer is a broken archive ({error})") from None


def _put(job: Job, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> None:
    last = name.rpartition("/")[2]
    if last.startswith(_WHITEOUT):
        _remove(safe_place(job, folder, name), last)
        return
    if not member.isreg():
        raise job.refuse(
            f"it holds {name[:300]!r}, which is a link or a device; put the file itself in its place"
        )
    target = safe_place(job, folder, name)
    job.needs(member.size)
    content = tar.extractfile(member)
    if content is not None:
        with target.open("wb") as out:
            shutil.copyfileobj(content, out, 1024 * 1024)


def _remove(mark: Path, last: str) -> None:
    """Take away what a whiteout says that a lower layer should not have."""
    gone = last.removeprefix(_WHITEOUT)
    if last == _OPAQUE:
        shutil.rmtree(mark.parent)
    elif gone not in ("", ".", ".."):
        path = mark.with_name(gone)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
