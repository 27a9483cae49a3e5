"""One Python environment for each peer, made on first use outside the checkout and keyed by its pins."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


class EnvironmentFailedError(Exception):
    """A peer's environment cannot be made; the message holds pip's last lines."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment on disk."""

    folder: Path
    pins: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def program(self, name: str) -> str:
        """Return the path of a program that a package of it brought."""
        return str(self.folder / "bin" / name)

    def version(self, package: str) -> str:
        """Return the version that the pins name for a package, or an empty text."""
        return pinned(self.pins.read_text(), package)


def cache() -> Path:
    """Where everything is kept that a benchmark makes and needs again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilothouse" / "bench"


def pinned(pins: str, package: str) -> str:
    """Return the version of `package` in the text of a requirements file, or an empty text."""
    for line in pins.splitlines():
        name, _, rest = line.partition("==")
        if rest and name.strip().lower() == package.lower():
            return rest.split()[0]
    return ""


def planned(name: str, pins: Path | None = None) -> Environment:
    """Return where the environment of a peer is, or will be once `ensure` has made it.

    Args:
        pins: its requirements file, if it is not among those of the peers.
    """
    pins = pins or PEERS / f"{name}.txt"
    recipe = pins.read_bytes() + f"{sys.version} {sys.base_prefix}".encode()
    return Environment(cache() / f"{name}-{hashlib.sha256(recipe).hexdigest()[:10]}", pins)


def ensure(name: str, say: Callable[[str], None], pins: Path | None = None) -> Environment:
    """Return a peer's environment, made now if it is not there (a minute or two, once); arguments as for `planned`.

    Raises:
        EnvironmentFailedError: pip fails.
    """
    environment = planned(name, pins)
    done = environment.folder / ".complete"
    if done.exists():
        return environment
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if done.exists():  # another run made it while we waited
            return environment
        say(f"making the environment of {name} in {environment.folder} (a minute or two, once)")
        shutil.rmtree(environment.folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(environment.folder)])
        pip = [str(environment.python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        _run([*pip, "-r", str(environment.pins)])
        done.touch()
    return environment


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise EnvironmentFailedError(f"{' '.join(argv[:5])} ... ended with {done.returncode}:\n{last}")
