"""Images that are one static program, packed without any container tool."""

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write_image(program: Path, tag: str, archive: Path) -> None:
    """Pack the static executable `program` as the image `tag`; it is started as `/NAME` by an unprivileged user.

    The archive has the layout of "Docker Image Specification v1.2", which `ctr images import` reads.
    """
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    archive.write_bytes(
        _tar({config_name: config, "layer.tar": layer, "manifest.json": manifest}, mode=0o644)
    )


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
