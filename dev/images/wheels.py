"""The wheels of the pinned requirements, fetched on the host with the machine's own pip settings.

The build mounts them, so that it needs neither the network nor those settings.
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

from dev.cluster.report import Report
from dev.images.recipe import PYTHON, Recipe
from dev.images.tools import Tools


def ensure(recipe: Recipe, root: Path, tools: Tools, report: Report) -> Path:
    """Fetch what is not there yet; returns the folder that holds the wheels.

    Args:
        recipe: whose requirements.
        root: an existing folder that keeps one folder per set of wheels.
        tools: runs pip.
        report: where progress is told.

    Raises:
        ImageError: pip finds no wheel for a requirement.
    """
    folder = root / f"{recipe.lock.stem}-{recipe.wheels_key()}"
    if not folder.exists():
        report.say(f"fetching the {recipe.name}'s dependencies")
        unfinished = Path(mkdtemp(dir=root))
        target = ("--only-binary=:all:", f"--python-version={PYTHON}", f"--dest={unfinished}")
        tools.run(sys.executable, "-m", "pip", "download", *target, f"--requirement={recipe.lock}")
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    return folder
