"""A folder of images that share their layers: the OCI Image Layout.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

import io
import json
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dev.images.errors import ImageError

_REF = "org.opencontainers.image.ref.name"


class Layout:
    """The layout in the folder `root`, where each image has a name of its own (`ref`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def refs(self) -> list[str]:
        """The names of all images, oldest first."""
        return [str(entry["annotations"][_REF]) for entry in self._entries()]

    def manifest_digest(self, ref: str) -> str:
        """The digest by which container engines know the image."""
        return str(self._entry(ref)["digest"])

    def config(self, ref: str) -> dict[str, Any]:
        """The image's configuration (https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md)."""
        return self._json(self._manifest(ref)["config"]["digest"])

    def size(self, ref: str) -> int:
        """Bytes of all layers; those that this project makes are not compressed."""
        return sum(int(layer["size"]) for layer in self._manifest(ref)["layers"])

    def layers(self, ref: str) -> list[Path]:
        """The layers' tar files, lowest first."""
        return [self._blob(layer["digest"]) for layer in self._manifest(ref)["layers"]]

    def write_archive(self, ref: str, target: Path, reference: str, without: Collection[str] = ()) -> None:
        """Write the image as an OCI archive.

        Args:
            ref: the image.
            target: the file to write.
            reference: what the image is to be called where the archive is loaded.
            without: digests of blobs to leave out, because the reader has them.
        """
        entry = {**self._entry(ref), "annotations": {_REF: reference}}
        with tarfile.open(target, "w") as archive:
            _add(archive, "oci-layout", (self.root / "oci-layout").read_bytes())
            _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
            for digest in self._blobs(entry):
                if digest not in without:
                    name = f"blobs/{digest.replace(':', '/')}"
                    archive.add(self.root / name, name)

    def keep(self, refs: Collection[str]) -> None:
        """Forget every image but `refs`, with the blobs that no image needs any more."""
        entries = [entry for entry in self._entries() if entry["annotations"][_REF] in refs]
        index = json.loads((self.root / "index.json").read_text()) | {"manifests": entries}
        fresh = self.root / "index.json.new"
        fresh.write_text(json.dumps(index))
        fresh.replace(self.root / "index.json")
        needed = {self._blob(digest) for entry in entries for digest in self._blobs(entry)}
        for blob in set(self.root.glob("blobs/*/*")) - needed:
            blob.unlink()

    def _entries(self) -> Sequence[dict[str, Any]]:
        index = self.root / "index.json"
        return json.loads(index.read_text())["manifests"] if index.exists() else []

    def _entry(self, ref: str) -> dict[str, Any]:
        for entry in self._entries():
            if entry["annotations"][_REF] == ref:
                return entry
        raise ImageError(f"{self.root} holds no image {ref}: build it with `python -m dev.images build`")

    def _manifest(self, ref: str) -> dict[str, Any]:
        return self._json(self._entry(ref)["digest"])

    def _blobs(self, entry: dict[str, Any]) -> list[str]:
        manifest = self._json(entry["digest"])
        parts = [entry, manifest["config"], *manifest["layers"]]
        return list(dict.fromkeys(part["digest"] for part in parts))

    def _json(self, digest: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self._blob(digest).read_text())
        return data

    def _blob(self, digest: str) -> Path:
        return self.root / "blobs" / digest.replace(":", "/")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
