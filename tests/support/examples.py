"""The examples as their folders have them: what a ModelDeployment of theirs names, and what its training left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from dev.bench import environments
from dev.shell import ROOT

Json = dict[str, Any]
EXAMPLES = ROOT / "examples"
# Of the largest number among the answers: sums of another order, as rows are batched differently, and nothing else.
TOLERANCE = 1e-5
TENSORFLOW = "build/tensorflow"
CLAIM = "pvc://models/"  # where all of them expect their files


@dataclass(frozen=True)
class Deployed:
    """One ModelDeployment of an example.

    Attributes:
        example: the example's folder, below examples/.
        manifest: as the file deployment.yaml has it.
    """

    example: str
    manifest: Json

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def model(self) -> str:
        """Name of the model's file or folder, as training writes it."""
        return _file(self.manifest["spec"]["model"]["uri"])

    @property
    def format(self) -> str:
        return str(self.manifest["spec"]["model"].get("format", "auto"))

    @property
    def validation(self) -> Json:
        """What is asked of a new revision: uri, metric, min or max."""
        return dict(self.manifest["spec"]["rollout"]["validation"])

    @property
    def golden(self) -> str:
        return _file(self.validation["uri"])

    @property
    def answers(self) -> str:
        """Name of the file with what the model answered offline; a golden data set too."""
        return f"{PurePosixPath(self.model).stem}-answers.npz"


def deployed() -> list[Deployed]:
    """Return the ModelDeployments of all examples that have a deployment.yaml."""
    return [
        Deployed(path.parent.name, manifest)
        for path in sorted(EXAMPLES.glob("*/deployment.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
    ]


@dataclass(frozen=True)
class Readme:
    """The README of an example: what it tells people to type."""

    text: str

    @classmethod
    def of(cls, example: str) -> Readme:
        return cls((EXAMPLES / example / "README.md").read_text())

    @property
    def training(self) -> list[str]:
        """The lines that train, or export, the example."""
        return [line.partition("#")[0].strip() for line in self._lines() if " -m examples." in line]

    def serving(self, model: str) -> str:
        """The line that serves a model of the example; of several models the README shows it for one."""
        (line,) = (line for line in self._lines() if " serve " in line)
        return re.sub(r"(?<=/)[^/ ]+(?= --)", model, line)

    @property
    def packing(self) -> list[str]:
        """The lines that pack what the training has written."""
        return [line for line in self._lines() if " pack " in line]

    def validating(self, model: str) -> list[str]:
        """The lines that hold a model of this name to its offline answers."""
        return [line for line in self._lines() if f"--model {model} " in line]

    def programs(self, model: str) -> list[str]:
        """Return the pieces of Python that ask a model of this name."""
        return [text for text in self._blocks("python") if f'.infer("{model}"' in text]

    def _lines(self) -> list[str]:
        return [line for block in self._blocks("console") for line in block.splitlines()]

    def _blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Trained:
    """What the training of an example wrote.

    Attributes:
        site: a folder like the root of the repository, in whose build/ it is.
    """

    example: str
    site: Path

    @property
    def folder(self) -> Path:
        return self.site / "build" / self.example

    def facts(self, model: str) -> Json:
        """Return what was measured offline, and the digest."""
        return dict(json.loads((self.folder / "report.json").read_text())[model])

    def scale(self, answers: str) -> float:
        """Return the largest number among the offline answers: differences are to be seen beside that."""
        with np.load(self.folder / answers, allow_pickle=False) as arrays:
            return max(
                float(np.abs(array).max()) for name, array in arrays.items() if name.startswith("output.")
            )

    def type(self, command: Sequence[str] | str) -> str:
        """Run what a README says, as somebody would who has followed it so far, and return what is printed."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        done = subprocess.run(
            words, check=False, cwd=self.site, env=self._environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def serve(self, command: str) -> Iterator[str]:
        """Run a server as a README says it, but on ports that are free; yields its base URL once it is ready."""
        words = ["sh", "-c", "exec " + command.replace("8080", "0").replace("8081", "0")]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        with subprocess.Popen(words, cwd=self.site, env=self._environment(), text=True, **pipes) as process:
            assert process.stderr is not None
            told = []
            try:
                for line in process.stderr:
                    told.append(line)
                    if found := re.match(r"ready: (http://localhost:\d+)/", line):
                        break
                else:
                    raise AssertionError("".join(told))
                yield found[1]
            finally:
                process.terminate()

    def _environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": programs, "PYTHONPATH": "runtime", "OMP_NUM_THREADS": "1"}


class Trainings:
    """Trains examples as their READMEs say, two at a time, in the background.

    Args:
        site: a folder to work in, as if it were the root of the repository.
    """

    def __init__(self, site: Path, examples: Iterable[str]) -> None:
        for name in ("examples", "runtime"):
            (site / name).symlink_to(ROOT / name)
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._running = {
            example: self._pool.submit(_train, Trained(example, site)) for example in sorted(set(examples))
        }

    def __getitem__(self, example: str) -> Trained:
        """Wait for the end of a training. Raises AssertionError where it failed."""
        return self._running[example].result()

    def close(self) -> None:
        """Wait for what is running, and begin nothing more."""
        self._pool.shutdown(cancel_futures=True)


def _train(trained: Trained) -> Trained:
    lines = Readme.of(trained.example).training
    if any(line.startswith(TENSORFLOW) for line in lines):
        _give_tensorflow(trained.site)
    for line in lines:
        trained.type(line)
    return trained


def _give_tensorflow(site: Path) -> None:
    """Put the environment that a README has people make where they make it; it is kept from run to run."""
    pins = ROOT / "requirements/runtime-tensorflow.txt"
    place = site / TENSORFLOW
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(environments.ensure("runtime-tensorflow", print, pins).folder)


def _file(uri: str) -> str:
    assert uri.startswith(CLAIM), uri
    return uri.removeprefix(CLAIM)
