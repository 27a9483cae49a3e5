"""Every example: trained as its README says, served by a real runtime process, and held to its offline answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilothouse.api.parse import parse
from pilothouse_runtime.contract import ValidationReport
from pilothouse_runtime.digests import digest_of
from tests.support.examples import TOLERANCE, Deployed, Readme, Trained, Trainings, deployed
from tests.support.runtime_process import validate


@dataclass(frozen=True)
class Served:
    """A model of an example, with its training and its server."""

    deployed: Deployed
    trained: Trained
    readme: Readme
    url: str
    folder: Path

    def measure(self, data: str, metric: str) -> ValidationReport:
        """Return what the validation program finds with a data set of the example."""
        uri = f"file://{self.trained.folder / data}"
        given = {"MODEL_NAME": self.deployed.name, "VALIDATION_METRIC": metric}
        ended = validate(self.folder, uri, self.url, **given)
        assert ended.report is not None, ended
        return ended.report


@pytest.fixture(scope="session")
def trainings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trainings]:
    """The examples that the chosen tests are about."""
    chosen = [item.callspec.params for item in request.session.items if "trainings" in item.fixturenames]
    # Others have a fixture of that name too, for examples of their own.
    wanted = [params["served"].example for params in chosen if "served" in params]
    trainings = Trainings(tmp_path_factory.mktemp("examples"), wanted)
    yield trainings
    trainings.close()


@pytest.fixture(scope="module", params=deployed(), ids=str)
def served(
    request: pytest.FixtureRequest, trainings: Trainings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Each ModelDeployment of the examples in turn."""
    one: Deployed = request.param
    trained = trainings[one.example]
    readme = Readme.of(one.example)
    with trained.serve(readme.serving(one.model)) as url:
        yield Served(one, trained, readme, url, tmp_path_factory.mktemp(one.name))


def test_what_is_served_is_what_was_measured(served: Served) -> None:
    facts = served.trained.facts(served.deployed.model)
    assert facts["digest"] == digest_of(served.trained.folder / served.deployed.model)
    answers = served.deployed.answers
    report = served.measure(answers, "maxDifference")
    assert report.value == pytest.approx(0, abs=TOLERANCE * served.trained.scale(answers))


def test_its_golden_data_set_lets_it_pass_with_the_figure_of_its_training(served: Served) -> None:
    validation = served.deployed.validation
    report = served.measure(served.deployed.golden, validation["metric"])
    facts = served.trained.facts(served.deployed.model)
    tolerance = TOLERANCE * served.trained.scale(served.deployed.golden)
    assert report.value == pytest.approx(facts[validation["metric"]], rel=1e-4, abs=tolerance)
    assert validation.get("min", report.value) <= report.value <= validation.get("max", report.value)


def test_what_its_readme_shows_works(served: Served) -> None:
    name = served.deployed.name
    for program in served.readme.programs(name):
        told = served.trained.type([sys.executable, "-c", program.replace("localhost:8080", served.url[7:])])
        assert told.strip()
        assert "nan" not in told
    for line in served.readme.packing:
        assert "kind: ModelDeployment" in served.trained.type(line)
    for line in served.readme.validating(name):
        assert "passed" in served.trained.type(line.replace("http://localhost:8080", served.url))


@pytest.mark.parametrize("one", deployed(), ids=str)
def test_its_manifest_is_valid(one: Deployed) -> None:
    parse(one.manifest)
