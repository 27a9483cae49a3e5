"""Keys change with what makes an image, and with nothing else; the Dockerfiles and the recipes say the same."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dev.images import base
from dev.images.recipe import (
    OPERATOR,
    RECIPES,
    RUNTIME,
    RUNTIME_COMPILE,
    RUNTIME_TENSORFLOW,
    VARIANTS,
    Recipe,
    chosen,
    digest,
)

_FILES = {
    "pyproject.toml": '[project]\nversion = "1.2.3"\n',
    "operator/Dockerfile": "FROM base\n",
    "operator/pilothouse/__init__.py": "",
    "operator/pilothouse/api/spec.py": "A = 1\n",
    "runtime/pilothouse_runtime/contract.py": "B = 1\n",
    "runtime/pilothouse_runtime/app.py": "C = 1\n",
    "requirements/operator.txt": "kopf==1\n",
    "requirements/runtime.txt": "torch==2\n",
}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for name, text in _FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return replace(OPERATOR, checkout=tmp_path)


def _append(name: str) -> Callable[[Path], object]:
    def change(checkout: Path) -> None:
        file = checkout / name
        file.parent.mkdir(exist_ok=True)
        file.write_text((file.read_text() if file.exists() else "") + "# changed\n")

    return change


def _rename(checkout: Path) -> None:
    (checkout / "operator/pilothouse/api/spec.py").rename(checkout / "operator/pilothouse/api/model.py")


def _new_version(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[project]\nversion = "1.2.4"\n')


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_append("operator/pilothouse/api/spec.py"), id="code"),
        pytest.param(_append("operator/pilothouse/new.py"), id="new file"),
        pytest.param(_append("runtime/pilothouse_runtime/contract.py"), id="contract"),
        pytest.param(_rename, id="renamed file"),
        pytest.param(_new_version, id="version"),
    ],
)
def test_code_makes_another_image_over_the_same_environment(
    recipe: Recipe, change: Callable[[Path], object]
) -> None:
    image, environment = recipe.image_key("base"), recipe.environment_key("base")
    change(recipe.checkout)
    assert recipe.image_key("base") != image
    assert recipe.environment_key("base") == environment


@pytest.mark.parametrize("name", ["operator/Dockerfile", "requirements/operator.txt"])
def test_the_recipe_itself_makes_another_environment_and_image(recipe: Recipe, name: str) -> None:
    image, environment = recipe.image_key("base"), recipe.environment_key("base")
    _append(name)(recipe.checkout)
    assert recipe.image_key("base") != image
    assert recipe.environment_key("base") != environment


def test_another_base_makes_another_environment_and_image(recipe: Recipe) -> None:
    assert recipe.image_key("base") != recipe.image_key("other")
    assert recipe.environment_key("base") != recipe.environment_key("other")


@pytest.mark.parametrize(
    "name",
    [
        "runtime/pilothouse_runtime/app.py",
        "requirements/runtime.txt",
        "operator/pilothouse/__pycache__/x.pyc",
        "README.md",
    ],
)
def test_what_is_not_in_the_image_changes_nothing(recipe: Recipe, name: str) -> None:
    before = recipe.image_key("base"), recipe.environment_key("base"), recipe.wheels_key()
    _append(name)(recipe.checkout)
    assert (recipe.image_key("base"), recipe.environment_key("base"), recipe.wheels_key()) == before


def test_digest_sees_the_borders_between_parts() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["ab"]) == digest([b"ab"])


def test_an_unknown_image_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match="image 'router': must be one of operator, runtime, runtime-tensorflow, runtime-compile",
    ):
        chosen("router")
    assert chosen(None) == RECIPES
    assert chosen("runtime-tensorflow") == (RUNTIME_TENSORFLOW,)
    assert chosen("runtime-compile") == (RUNTIME_COMPILE,)


def test_the_image_with_a_compiler_has_the_runtimes_dependencies() -> None:
    assert RUNTIME_COMPILE.lock == RUNTIME.lock
    assert RUNTIME_COMPILE.arguments == {"LOCK": "runtime", "COMPILER": "g++"}
    assert base.key("g++") != base.key()


@pytest.mark.parametrize("recipe", [*RECIPES, *VARIANTS], ids=lambda recipe: recipe.name)
class TestThisCheckout:
    def test_the_dockerfile_copies_the_sources_and_the_lock(self, recipe: Recipe) -> None:
        text = recipe.dockerfile.read_text()
        arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE)) | recipe.arguments
        copied = [
            re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], word)
            for word in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE)
        ]
        lock = recipe.lock.relative_to(recipe.checkout).as_posix()
        assert sorted(copied) == sorted([*recipe.sources, lock])

    def test_the_dockerfile_has_the_project_s_version(self, recipe: Recipe) -> None:
        assert re.findall(r"^ARG VERSION=(\S+)$", recipe.dockerfile.read_text(), re.MULTILINE) == [
            recipe.version
        ]
