"""buildah, with a storage of this project's own: the machine's images and containers are neither seen nor touched."""

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from dev.images.errors import ImageError
from dev.images.tools import Tools


class Buildah:
    """The images and containers below the folder `root`.

    Raises:
        ImageError: buildah can keep no images there.
    """

    def __init__(self, root: Path, tools: Tools) -> None:
        self._tools = tools
        # What is mounted is noted in the run root, which must not outlive a boot.
        run_root = Path("/run/pilothouse-images") / hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
        # overlayfs cannot lie upon overlayfs, as it would in most containers.
        for driver in ("overlay", "vfs"):
            self._root, self._run_root, self._driver = root / driver, run_root / driver, driver
            try:
                self.clear()
            except ImageError as error:
                refusal = error
            else:
                return
        raise refusal

    def run(self, command: str, *arguments: str) -> None:
        """Run one of buildah's commands.

        Raises:
            ImageError: it fails; the message holds the last it said.
        """
        self._tools.run("buildah", command, *self._where(), *arguments)

    def read(self, command: str, *arguments: str) -> str:
        """Run one of buildah's commands; returns what it prints, stripped.

        Raises:
            ImageError: it fails; the message holds the last it said.
        """
        return self._tools.read("buildah", command, *self._where(), *arguments).strip()

    def reference(self, image: str) -> str:
        """What skopeo calls the image (containers-transports(5))."""
        return f"containers-storage:[{self._driver}@{self._root}+{self._run_root}]{image}"

    def images(self) -> list[str]:
        """The names of all images, oldest image first."""
        listed = json.loads(self.read("images", "--json"))
        listed.sort(key=lambda image: str(image["createdatraw"]))
        return [str(name) for image in listed for name in image["names"] or ()]

    def remove(self, images: Collection[str]) -> None:
        """Remove images by name."""
        if images:
            self.run("rmi", *images)

    def clear(self) -> None:
        """Remove what an interrupted build left: containers with their mounts, and images without a name."""
        self.run("rm", "--all")
        self.run("rmi", "--prune")

    def _where(self) -> tuple[str, ...]:
        return f"--root={self._root}", f"--runroot={self._run_root}", f"--storage-driver={self._driver}"
