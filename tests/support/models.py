"""The example models, trained for real, and beside them models that go wrong in one way each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dev.shell import ROOT
from tests.support import odd_models

GOLDEN = "digits-golden.npz"


@dataclass(frozen=True)
class Models:
    """Two trained models, their held-out digits and what they scored offline, by version."""

    folder: Path
    accuracy: dict[str, float]
    digest: dict[str, str]

    files: ClassVar = {"1": "digits-mlp.pt", "2": "digits-cnn.pt2"}


@dataclass(frozen=True)
class Store:
    """Where the models can be fetched, in good and in bad ways (see tests/support/badserver.py)."""

    address: str

    def url(self, name: str, behaviour: str = "good") -> str:
        return f"{self.address}/{behaviour}/{name}"

    def version(self, version: str) -> str:
        """Return the address of a version of the example; of the third, which is good too, nothing more is known."""
        return self.url(Models.files.get(version, odd_models.RETRAINED))

    @property
    def golden(self) -> str:
        """Address of the example's golden data set."""
        return self.url(GOLDEN)


def train(folder: Path) -> Models:
    """Train the example's models into `folder`, and write the odd ones there."""
    subprocess.run(
        [sys.executable, "-m", "examples.digits.train", "--out", str(folder)], check=True, cwd=ROOT
    )
    odd_models.write(folder)
    report = json.loads((folder / "report.json").read_text())
    return Models(
        folder,
        accuracy={version: report[file]["accuracy"] for version, file in Models.files.items()},
        digest={version: report[file]["digest"] for version, file in Models.files.items()},
    )
