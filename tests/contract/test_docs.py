"""The pages for people: their pieces of a spec are valid, their links lead to something, their variables exist."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.api.parse import parse
from pilothouse_runtime import contract
from tests.support.spec_strategies import model_deployment

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
# Pieces of rollouts.md stand for less than a spec: test_crd_rollouts_guide puts them into one.
SPECS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    if page.stem != "rollouts"
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S))
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


class Loader(yaml.SafeLoader):
    """Refuses a field that is there twice, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"twice in one mapping: {keys}"
        return super().construct_mapping(node, deep)


def slug(heading: str) -> str:
    """Return a heading as the web sites of repositories link to it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain).strip().lower().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("text", SPECS)
def test_pieces_of_a_spec_are_valid(text: str) -> None:
    piece = yaml.load(text.replace("sha256:...", f"sha256:{'0' * 64}"), Loader)  # noqa: S506 - it is a safe one
    parse(model_deployment({"model": {"uri": "s3://models/digits.pt2"}} | piece.get("spec", piece)))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_to_something(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match("[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_variables_are_those_of_the_contract(page: Path) -> None:
    known = {value for name, value in vars(contract).items() if name.startswith("ENV_")}
    named = set(
        re.findall(r"\bPILOTHOUSE_(?:MODEL|DRIFT|SAMPLING|VALIDATION|FETCH)_[A-Z_]*[A-Z]", page.read_text())
    )
    assert named <= known
