"""docs/rollouts.md: its examples are valid, and it leaves out no phase, no command and no way to fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.api.conditions import Command, Phase, Reason
from pilothouse.api.parse import parse
from pilothouse.api.rollout import Metric, Strategy
from pilothouse.plan.weights import reached, split
from tests.support.bad_specs import CANARY, good_model_deployment

GUIDE = Path(__file__).resolve().parents[2] / "docs/rollouts.md"
TEXT = GUIDE.read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
QUOTED = set(re.findall(r"`([^`]+)`", re.sub("```.*?```", "", TEXT, flags=re.DOTALL)))


def completed(example: dict[str, Any]) -> dict[str, Any]:
    """Return the ModelDeployment that a piece of a spec belongs to."""
    if "analysis" in example:
        example = {"rollout": {**CANARY, **example}}
    body = good_model_deployment()
    body["spec"] |= example.get("spec", example)
    return body


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_are_valid(example: str) -> None:
    parse(completed(yaml.safe_load(example)))


def test_there_is_an_example_of_each_strategy() -> None:
    specs = [parse(completed(yaml.safe_load(example))) for example in EXAMPLES]
    assert {spec.rollout.strategy for spec in specs} == set(Strategy)
    assert any(spec.rollout.surge == 0 for spec in specs)


def test_no_word_is_left_out() -> None:
    judged = {Reason.VALIDATION_FAILED, Reason.VALIDATION_NOT_DONE, Reason.ANALYSIS_FAILED, Reason.ABORTED}
    for words in (Phase, Strategy, Metric, judged):
        assert {str(word) for word in words} - QUOTED == set()
    assert {str(command) for command in Command} - {quoted.partition("=")[0] for quoted in QUOTED} == set()


def test_weights_come_to_what_the_table_says() -> None:
    rows = [
        tuple(map(int, row))
        for row in re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.M)
    ]
    assert rows
    for replicas, weight, candidate, stable, share in rows:
        pods = split(weight, replicas)
        assert (pods.candidate, pods.stable) == (candidate, stable)
        assert reached(pods.candidate, pods.stable) == share
