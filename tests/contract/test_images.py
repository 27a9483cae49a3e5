"""What the built images promise; the first run builds them."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dev.images import Image, build
from dev.images.recipe import OPERATOR, RECIPES, RUNTIME_TENSORFLOW

_IMAGES = {recipe.name: recipe for recipe in (*RECIPES, RUNTIME_TENSORFLOW)}
_MOST_BYTES = {"operator": 350e6, "runtime": 1.7e9, "runtime-tensorflow": 1.5e9}
# Of the libraries that run models, those that an image is for.
_LIBRARIES = {
    "operator": [],
    "runtime": ["torch", "onnxruntime", "transformers", "captum", "keras"],
    "runtime-tensorflow": ["tensorflow", "keras"],
}
# What imports a library that the image with TensorFlow lacks.
_BEYOND = ("pilothouse_runtime.engine.", "pilothouse_runtime.pack")

# The root filesystem as a container has it: read-only but for /tmp.
_ENTER = """
set -eu
root=$1; user=$2; shift 2
mount --bind "$root" "$root"
mount --options remount,bind,ro "$root"
mount --types tmpfs --options mode=1777 tmpfs "$root/tmp"
mount --types proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot --userspec="$user" "$root" env -i "$@"
"""

_IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith(".__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""


class _Built:
    """One image, its files listed, and unpacked when a program is to be run in it."""

    def __init__(self, image: Image, root: Path) -> None:
        self.image = image
        self.settings: dict[str, Any] = image.layout.config(image.ref)["config"]
        self.files: dict[PurePosixPath, tarfile.TarInfo] = {}
        self._root = root
        for layer in image.layout.layers(image.ref):
            with tarfile.open(layer) as archive:
                self.files |= {PurePosixPath("/", member.name): member for member in archive}
            subprocess.run(["tar", "-C", root, "-xf", layer], check=True)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        enter = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self._root), self.settings["User"]]
        inside = [*self.settings["Env"], *command]
        return subprocess.run([*enter, *inside], capture_output=True, text=True, check=False)

    def python(self, code: str, *arguments: str) -> str:
        done = self.run("python", "-c", code, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=_IMAGES)
def built(request: pytest.FixtureRequest) -> Iterator[_Built]:
    (image,) = build(request.param)
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield _Built(image, Path(folder))


@pytest.mark.timeout(1200)  # the first test builds: Debian's base, the dependencies, the image
def test_size(built: _Built) -> None:
    layers = [layer.stat().st_size for layer in built.image.layout.layers(built.image.ref)]
    print(f"{built.image.name}: {sum(layers) / 1e6:.0f} MB, of which code {layers[-1] / 1e6:.2f} MB")  # noqa: T201 - for those who watch it grow
    assert layers[-1] < 4e6, "a change of code must not send dependencies again"
    assert sum(layers) < _MOST_BYTES[built.image.name]


def test_nothing_is_left_to_build_or_install_with(built: _Built) -> None:
    programs = {path.name for path in built.files if path.parent.name in ("bin", "sbin")}
    assert not programs & {
        "pip",
        "pip3",
        "easy_install",
        "gcc",
        "cc",
        "g++",
        "c++",
        "cpp",
        "ld",
        "make",
        "apt",
        "apt-get",
    }
    packages = {path.name for path in built.files if path.parent.name in ("site-packages", "dist-packages")}
    assert not packages & {"pip", "setuptools", "wheel", "pkg_resources", "clang"}
    lists = [
        path
        for path in built.files
        if path.is_relative_to("/var/lib/apt/lists") and built.files[path].isfile()
    ]
    assert [path for path in lists if path.name != "lock"] == []
    assert [path for path in built.files if path.suffix in (".deb", ".whl")] == []


def test_it_holds_the_libraries_that_it_is_for(built: _Built) -> None:
    code = "import importlib.util, sys; print(*filter(importlib.util.find_spec, sys.argv[1:]))"
    libraries = sorted({library for wanted in _LIBRARIES.values() for library in wanted})
    assert built.python(code, *libraries).split() == sorted(_LIBRARIES[built.image.name])


def test_the_operator_knows_the_contract_of_the_runtime_only(built: _Built) -> None:
    folder = PurePosixPath("/opt/pilothouse/pilothouse_runtime")
    sources = {
        str(path.relative_to(folder))
        for path in built.files
        if path.is_relative_to(folder) and path.suffix == ".py"
    }
    if built.image.name == "operator":
        assert sources == {"contract.py"}
    else:
        assert "contract.py" in sources


def test_it_runs_as_nobody_in_particular(built: _Built) -> None:
    assert built.settings["User"] == "65532:65532"
    assert built.python("import os; print(os.getuid(), os.getgid())") == "65532 65532\n"


def test_labels(built: _Built) -> None:
    label = "org.opencontainers.image."
    labels = {name.removeprefix(label): text for name, text in built.settings["Labels"].items()}
    assert labels["title"] == f"Pilothouse {built.image.name}"
    assert labels["version"] == OPERATOR.version
    assert labels["licenses"] == "Apache-2.0"
    assert labels["description"]
    assert labels["revision"]
    assert "source" in labels


def test_the_entry_point_is_there(built: _Built) -> None:
    package = _package(built)
    assert built.settings["Entrypoint"] == ["python", "-m", package]
    assert not built.settings.get("Cmd")
    assert built.files[PurePosixPath(f"/opt/pilothouse/{package}/__main__.py")].isfile()


def test_every_module_imports_with_a_read_only_root(built: _Built) -> None:
    missing = dict(line.split() for line in built.python(_IMPORT_ALL, _package(built)).splitlines())
    if built.image.name == RUNTIME_TENSORFLOW.name:
        assert set(missing.values()) == {"torch", "onnxruntime", "safetensors"}
        assert [module for module in missing if not module.startswith(_BEYOND)] == []
        assert "pilothouse_runtime.engine.backends.savedmodel" not in missing
    else:
        assert missing == {}
    refused = built.run("python", "-c", "open('/opt/pilothouse/new', 'w')")
    assert "Read-only file system" in refused.stderr or "Permission denied" in refused.stderr


def test_bytecode_is_made_already(built: _Built) -> None:
    def missing(path: PurePosixPath) -> bool:
        return path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc" not in built.files

    sources = [path for path in built.files if path.is_relative_to("/opt") and path.suffix == ".py"]
    tests_of_torch = PurePosixPath("/opt/venv/lib/python3.11/site-packages/torch/testing/_internal")
    assert [path for path in sources if missing(path) and not path.is_relative_to(tests_of_torch)] == []


def test_it_knows_its_version_and_its_dependencies(built: _Built) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    installed: dict[str, str] = json.loads(built.python(code))
    assert installed.pop("pilothouse") == OPERATOR.version
    lines = [
        line
        for line in _IMAGES[built.image.name].lock.read_text().splitlines()
        if line and line[0] not in "# "
    ]
    pinned = dict(line.split("==") for line in lines)
    for name in ("setuptools", "wheel", "libclang"):  # torch and TensorFlow name them, to compile with
        pinned.pop(name, None)
    assert {
        name.lower().replace("_", "-"): version.partition("+")[0] for name, version in installed.items()
    } == pinned


def _package(built: _Built) -> str:
    return "pilothouse" if built.image.name == OPERATOR.name else "pilothouse_runtime"
