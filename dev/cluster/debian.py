"""Debian's packages: programs installed where missing, and packages or sources unpacked without being installed.

etcd and containerd are unpacked only. Installing them would start and enable their services, and could replace another
container engine that the machine has.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.layout import LOCK_ROOT
from dev.cluster.report import Report

SUITE = "bookworm"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = (
    "#!/bin/sh\n# Written by pilothouse while it installs packages: no service is to be started.\nexit 101\n"
)


def missing_programs(wanted: Mapping[str, str]) -> dict[str, str]:
    """Those of `wanted` (program -> package) that are not on PATH."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return {
        program: package for program, package in wanted.items() if shutil.which(program, path=path) is None
    }


def install_missing(wanted: Mapping[str, str], report: Report) -> None:
    """Install the packages of the programs that the machine lacks; services they bring are not started.

    Raises:
        ClusterError: apt fails; the message holds its last lines.
    """
    missing = missing_programs(wanted)
    if not missing:
        return
    packages = sorted(set(missing.values()))
    report.say(f"missing: {', '.join(sorted(missing))}; installing Debian's {' '.join(packages)}")
    wait_for_lock = ("-o", "DPkg::Lock::Timeout=600")
    with _services_denied():
        _run("apt-get", *wait_for_lock, "update")
        _run("apt-get", *wait_for_lock, "install", "--yes", "--no-install-recommends", *packages)


class Archive:
    """A private view of the machine's own package sources: its lists, cache and settings stay untouched."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lists = directory / "sources.list"

    def update(self) -> None:
        """Fetch the package and source lists of the suite.

        Raises:
            ClusterError: the machine has no source for the suite, or it cannot be reached.
        """
        (self._directory / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (self._directory / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        query = ("indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
        lines = sorted(set(_run("apt-get", *query).splitlines()))
        wanted = [
            line
            for line in lines
            if line.split(" ")[1:2] in ([SUITE], [f"{SUITE}-updates"], [f"{SUITE}-security"])
        ]
        if not wanted:
            raise ClusterError(
                f"apt knows no source for Debian {SUITE}: add one to /etc/apt/sources.list.d, or set KUBECONFIG to a "
                "cluster that you have"
            )
        signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        entries = [f"{kind} {signed}{line}\n" for line in wanted for kind in ("deb", "deb-src")]
        self._lists.write_text("".join(entries))
        self._apt("apt-get", "update")

    def unpack(self, packages: Sequence[str], destination: Path) -> list[str]:
        """Unpack binary packages below `destination`; returns the file names, which hold the versions."""
        archives = self._directory / "archives"
        archives.mkdir(exist_ok=True)
        self._apt("apt-get", "download", *packages, cwd=archives)
        destination.mkdir(parents=True, exist_ok=True)
        files = sorted(archives.glob("*.deb"))
        for file in files:
            _run("dpkg-deb", "--extract", str(file), str(destination))
        shutil.rmtree(archives)
        return [file.name for file in files]

    def unpack_source(self, package: str, destination: Path) -> str:
        """Unpack a source package with Debian's patches as the new directory `destination`; returns its version."""
        downloads = self._directory / "source"
        downloads.mkdir(exist_ok=True)
        self._apt("apt-get", "source", "--download-only", package, cwd=downloads)
        (description,) = downloads.glob("*.dsc")
        # apt has checked the files against the signed list.
        _run("dpkg-source", "--no-check", "--extract", str(description), str(destination))
        shutil.rmtree(downloads)
        return description.stem.partition("_")[2]

    def _apt(self, *command: str, cwd: Path | None = None) -> None:
        settings = {
            "Dir::Etc::sourcelist": self._lists,
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": self._directory / "lists",
            "Dir::Cache": self._directory / "cache",
            "APT::Sandbox::User": "root",  # apt's own user may not enter root's cache directory
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        _run(command[0], *options, *command[1:], cwd=cwd)


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ClusterError(f"{command[0]} failed with exit status {done.returncode}:\n{said}")
    return done.stdout


@contextmanager
def _services_denied() -> Iterator[None]:
    """Keep maintainer scripts from starting services, as Debian's policy manual describes for policy-rc.d."""
    with (LOCK_ROOT / "pilothouse-packages.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if _POLICY.exists() and _POLICY.read_text(errors="replace") != _POLICY_TEXT:
            yield  # the machine has a policy of its own
            return
        _POLICY.write_text(_POLICY_TEXT)
        _POLICY.chmod(0o755)
        try:
            yield
        finally:
            _POLICY.unlink()
