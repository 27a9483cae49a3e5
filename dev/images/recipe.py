"""What each image is made of, and the keys that name a result by all that made it."""

import hashlib
import platform
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = "3.11"  # Debian bookworm's


@dataclass(frozen=True)
class Recipe:
    """One image of one checkout.

    Attributes:
        name: such as operator or runtime; also the name of its pinned requirements.
        sources: the files and folders that the Dockerfile copies as code.
        checkout: where the project lies.
        variant_of: the image whose Dockerfile this one is made from, with other requirements; "" for its own.
        requirements: the name of its pinned requirements, where that is not its own.
        compiler: Debian's package of one that it holds, or "".
    """

    name: str
    sources: tuple[str, ...]
    checkout: Path = CHECKOUT
    variant_of: str = ""
    requirements: str = ""
    compiler: str = ""

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile."""
        return self.checkout / (self.variant_of or self.name) / "Dockerfile"

    @property
    def arguments(self) -> dict[str, str]:
        """The build arguments that make this image and not another one of the same Dockerfile."""
        lock = {"LOCK": self.lock.stem} if self.variant_of else {}
        return lock | ({"COMPILER": self.compiler} if self.compiler else {})

    @property
    def lock(self) -> Path:
        """The pinned requirements."""
        return self.checkout / "requirements" / f"{self.requirements or self.name}.txt"

    @property
    def version(self) -> str:
        """The project's version."""
        return str(tomllib.loads((self.checkout / "pyproject.toml").read_text())["project"]["version"])

    def wheels_key(self) -> str:
        """Names the wheels of the pinned requirements."""
        return digest([PYTHON, platform.machine(), self.lock.read_bytes()])

    def environment_key(self, base: str) -> str:
        """Names the image of the dependencies alone, over the base image whose key is `base`."""
        return digest([base, self.dockerfile.read_bytes(), self.lock.read_bytes()])

    def image_key(self, base: str) -> str:
        """Names the whole image."""
        return digest([self.environment_key(base), self.version, *self._contents()])

    def _contents(self) -> Iterator[str | bytes]:
        for source in self.sources:
            for file in sorted(_files(self.checkout / source)):
                yield file.relative_to(self.checkout).as_posix()
                yield file.read_bytes()


OPERATOR: Final = Recipe("operator", ("operator/pilothouse", "runtime/pilothouse_runtime/contract.py"))
RUNTIME: Final = Recipe("runtime", ("runtime/pilothouse_runtime",))
RECIPES: Final = (OPERATOR, RUNTIME)
# Made only when it is asked for by name: most have no use for it.
RUNTIME_TENSORFLOW: Final = Recipe("runtime-tensorflow", RUNTIME.sources, variant_of=RUNTIME.name)
RUNTIME_COMPILE: Final = Recipe(
    "runtime-compile", RUNTIME.sources, variant_of=RUNTIME.name, requirements=RUNTIME.name, compiler="g++"
)
VARIANTS: Final = (RUNTIME_TENSORFLOW, RUNTIME_COMPILE)
NAMES: Final = tuple(recipe.name for recipe in (*RECIPES, *VARIANTS))


def chosen(only: str | None) -> tuple[Recipe, ...]:
    """The recipe called `only`, or all of `RECIPES`.

    Raises:
        ValueError: there is none of that name.
    """
    if only is None:
        return RECIPES
    found = tuple(recipe for recipe in (*RECIPES, *VARIANTS) if recipe.name == only)
    if not found:
        raise ValueError(f"image {only!r}: must be one of {', '.join(NAMES)}")
    return found


def digest(parts: Iterable[str | bytes]) -> str:
    """Sixteen hexadecimal digits that stand for `parts`, their order and their borders."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    """Every file that .dockerignore lets through."""
    if path.is_file():
        yield path
        return
    yield from (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
