"""The base images, made from Debian's packages: those to run on, and one to install dependencies in."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dev.cluster.report import Report
from dev.images.buildah import Buildah
from dev.images.errors import ImageError
from dev.images.recipe import digest
from dev.images.tools import Tools

_SUITE: Final = "bookworm"
_PACKAGES: Final = ("python3", "ca-certificates", "libstdc++6", "usr-is-merged")
# Licences stay, as in Debian's own slim images.
_PATHS: Final = (
    *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
    "path-include=/usr/share/doc/*/copyright",
)


def key(compiler: str = "") -> str:
    """Names a base image; that without a compiler, which is a package of Debian's, is the builder's too."""
    return digest(_mmdebstrap(compiler))


def base_image(compiler: str = "") -> str:
    """What containers run on: Debian's essential packages and Python, without apt and pip."""
    return f"localhost/pilothouse-base:{key(compiler)}"


def builder_image() -> str:
    """The base image with pip."""
    return f"localhost/pilothouse-builder:{key()}"


def ensure(buildah: Buildah, tools: Tools, scratch: Path, report: Report, compiler: str = "") -> None:
    """Make the base image and the builder's if they are not there (half a minute).

    Args:
        buildah: where they are kept.
        tools: runs mmdebstrap.
        scratch: an existing folder for files that are not kept.
        report: where progress is told.
        compiler: what the base image is to hold, or "".

    Raises:
        ImageError: Debian's packages cannot be had, or buildah fails.
    """
    there = set(buildah.images())
    if not {base_image(), builder_image()} <= there:
        _make(buildah, tools, scratch, report, "")
    if compiler and base_image(compiler) not in there:
        _make(buildah, tools, scratch, report, compiler)


def _mmdebstrap(compiler: str) -> tuple[str, ...]:
    packages = (*_PACKAGES, compiler) if compiler else _PACKAGES
    return (
        "mmdebstrap",
        "--variant=essential",
        f"--include={','.join(packages)}",
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *(f"--dpkgopt={path}" for path in _PATHS),
        _SUITE,
    )


def _make(buildah: Buildah, tools: Tools, scratch: Path, report: Report, compiler: str) -> None:
    report.say(
        f"making the base image from Debian {_SUITE}'s packages{f', with {compiler}' if compiler else ''}"
    )
    with TemporaryDirectory(dir=scratch) as folder:
        files = Path(folder) / "base.tar"
        tools.run(*_mmdebstrap(compiler), str(files))
        container = buildah.read("from", "scratch")
        buildah.run("add", "--quiet", container, str(files), "/")
    buildah.run("commit", "--quiet", container, base_image(compiler))
    if compiler:
        buildah.run("rm", container)
        return
    # Debian's own pip would bring 60 MB of packages with it; the one that this program runs beside is a folder.
    pip = _folder_of_pip()
    buildah.run("copy", "--quiet", container, pip, "/usr/lib/python3/dist-packages/pip")
    buildah.run("commit", "--quiet", container, builder_image())
    buildah.run("rm", container)


def _folder_of_pip() -> str:
    """Where this interpreter has pip. Not by importing it: setuptools steps back then for the rest of the process."""
    found = PathFinder.find_spec("pip")
    if found is None or not found.submodule_search_locations:
        raise ImageError(f"{sys.executable} has no pip, which the builder image is to have")
    return found.submodule_search_locations[0]
