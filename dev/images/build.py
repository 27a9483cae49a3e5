"""Building what has changed."""

import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final

from dev.cluster.debian import install_missing
from dev.cluster.report import Report
from dev.images import base, wheels
from dev.images.buildah import Buildah
from dev.images.errors import ImageError
from dev.images.layout import Layout
from dev.images.recipe import Recipe, chosen
from dev.images.tools import Tools

_PROGRAMS: Final = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "skopeo": "skopeo"}
# Of each kind of result, for those who go back and forth between two states of the project.
_KEPT: Final = 3
_KEY: Final = len(base.key())


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        name: as the recipe has it.
        version: the project's.
        key: stands for everything that made it.
        layout: the folder it lies in, by the name `ref`.
    """

    name: str
    version: str
    key: str
    layout: Layout

    @property
    def ref(self) -> str:
        """The image's name in `layout`."""
        return f"{self.name}-{self.key}"

    def reference(self, prefix: str, tag: str | None = None) -> str:
        """What the image is called below the registry path `prefix`; `tag` is the version unless given."""
        return f"{prefix}/{self.name}:{tag or self.version}"


def planned(only: str | None = None) -> list[Image]:
    """Return the images that `build` would give now, by their names alone: they may not be there yet.

    Raises:
        ValueError: there is no image called `only`.
    """
    return [_image(recipe) for recipe in chosen(only)]


def build(only: str | None = None, *, report: Report | None = None) -> list[Image]:
    """Build the images whose parts have changed since they were built; the others are found in the cache.

    Args:
        only: the name of one; operator and runtime unless given.
        report: where progress is told.

    Raises:
        ImageError: this machine cannot build, or a build fails.
        ClusterError: a Debian package cannot be installed.
        ValueError: there is no image called `only`.
    """
    report = report or Report()
    recipes = chosen(only)
    images = planned(only)
    if not all(map(_built, images)):
        _prepare_machine(report)
        with _exclusively(report):
            images = [_Build(recipe, report).run() for recipe in recipes]
    for image in images:
        report.say(f"{image.name} {image.key}: {image.layout.size(image.ref) / 1e6:.0f} MB")
    return images


class _Build:
    def __init__(self, recipe: Recipe, report: Report) -> None:
        self._recipe = recipe
        self._report = report
        self._tools = Tools(cache() / "build.log")
        self._buildah = Buildah(cache() / "storage", self._tools)

    def run(self) -> Image:
        """Build until what was built is what lies in the checkout, in which people work meanwhile."""
        while not _built(image := _image(self._recipe)):
            base.ensure(self._buildah, self._tools, cache(), self._report, self._recipe.compiler)
            if environment := self._environment():
                self._whole(image, environment)
        self._forget_old()
        return image

    def _environment(self) -> str | None:
        """The name of the image of the dependencies; None if the files changed while it was built."""
        key = self._recipe.environment_key(base.key(self._recipe.compiler))
        name = f"localhost/pilothouse-{self._recipe.name}:{key}"
        if name not in self._buildah.images():
            found = wheels.ensure(self._recipe, _folder("wheels"), self._tools, self._report)
            self._report.say(f"installing the {self._recipe.name}'s dependencies")
            self._dockerfile(
                name,
                "--target=environment",
                f"--volume={found}:/wheels:ro",
                "--build-arg=PIP_ARGS=--no-index --find-links /wheels",
            )
        if self._recipe.environment_key(base.key(self._recipe.compiler)) == key:
            return name
        self._buildah.remove([name])
        return None

    def _whole(self, image: Image, environment: str) -> None:
        self._report.say(f"building the {image.name}'s image")
        name = f"localhost/pilothouse-{image.name}:whole"
        # The named context stands in for the stage of the same name, which is then not built again.
        self._dockerfile(name, f"--build-context=environment=container-image://{environment}")
        if _image(self._recipe).key == image.key:
            # Layers that are not compressed keep their names: those that lie in the layout are not written again.
            self._tools.run(
                "skopeo",
                "copy",
                "--quiet",
                "--dest-oci-accept-uncompressed-layers",
                self._buildah.reference(name),
                f"oci:{image.layout.root}:{image.ref}",
            )
        self._buildah.remove([name])

    def _dockerfile(self, image: str, *options: str) -> None:
        arguments = {
            "BASE_IMAGE": base.base_image(self._recipe.compiler),
            "BUILDER_IMAGE": base.builder_image(),
            "VERSION": self._recipe.version,
            "REVISION": _revision(self._recipe.checkout),
            **self._recipe.arguments,
        }
        self._buildah.run(
            "build",
            "--isolation=chroot",  # needs neither a runtime nor the right to raise limits
            "--pull=never",
            f"--file={self._recipe.dockerfile}",
            f"--tag={image}",
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            *options,
            str(self._recipe.checkout),
        )

    def _forget_old(self) -> None:
        name, layout = self._recipe.name, _layout()
        old = _outdated(layout.refs(), f"{name}-")
        layout.keep([ref for ref in layout.refs() if ref not in old])
        images = self._buildah.images()
        for prefix in (
            f"localhost/pilothouse-{name}:",
            "localhost/pilothouse-builder:",
            "localhost/pilothouse-base:",
        ):
            self._buildah.remove(_outdated(images, prefix))
        folders = sorted(_folder("wheels").iterdir(), key=lambda folder: folder.stat().st_mtime)
        for folder in _outdated([folder.name for folder in folders], f"{name}-"):
            shutil.rmtree(_folder("wheels") / folder)


def cache() -> Path:
    """The folder of everything that is kept: below XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilothouse" / "images"


def _image(recipe: Recipe) -> Image:
    return Image(recipe.name, recipe.version, recipe.image_key(base.key(recipe.compiler)), _layout())


def _layout() -> Layout:
    return Layout(cache() / "layout")


def _built(image: Image) -> bool:
    return image.ref in image.layout.refs()


def _outdated(names: Sequence[str], prefix: str) -> Collection[str]:
    """Those of this prefix and a key, except the newest; `names` begin with the oldest."""
    return [name for name in names if name.startswith(prefix) and len(name) == len(prefix) + _KEY][:-_KEPT]


def _prepare_machine(report: Report) -> None:
    if os.geteuid() != 0:
        raise ImageError(
            f"images are built by root (you are user {os.geteuid()}): run `sudo --preserve-env python -m dev.images "
            "build`, or build them with docker as docs/images.md shows"
        )
    install_missing(_PROGRAMS, report)


def _revision(checkout: Path) -> str:
    """The commit in the checkout, marked if files differ from it; "unknown" outside a repository."""
    described = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def _folder(name: str) -> Path:
    folder = cache() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _exclusively(report: Report) -> Iterator[None]:
    with (_folder(".") / "lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            report.say("another command builds images: waiting for it")
            flock(lock, LOCK_EX)
        yield
