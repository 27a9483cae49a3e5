"""Where the files of a benchmark are: the models and the right answers, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dev.bench.environments import EnvironmentFailedError, cache
from dev.shell import ROOT


def models(say: Callable[[str], None]) -> Path:
    """Return the folder with NAME.pt, NAME.pt2 and NAME.npz of each model, made now if it is not there.

    Raises:
        EnvironmentFailedError: torch could not write them.
    """
    here = Path(__file__).parent
    recipe = b"".join(
        file.read_bytes()
        for file in (here / "models.py", here / "prepare.py", ROOT / "requirements/runtime.txt")
    )
    folder = cache() / f"models-{hashlib.sha256(recipe).hexdigest()[:10]}"
    if folder.is_dir():
        return folder
    say(f"writing the models and torch's answers to {folder}")
    work = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    argv = [sys.executable, "-W", "ignore", "-m", "dev.bench.prepare", str(work)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentFailedError(f"the models cannot be written:\n{done.stderr[-2000:]}")
    if folder.is_dir():  # another run was faster
        shutil.rmtree(work)
    else:
        work.rename(folder)
    return folder
