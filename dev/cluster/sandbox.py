"""The namespaces of one cluster: made by `unshare`, found again through /proc, entered by `nsenter`.

The process table, not a pid file, says whether a cluster runs: nothing can be stale after a crash or a reboot.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev.cluster import supervisor
from dev.cluster.components import Component
from dev.cluster.errors import ClusterError
from dev.cluster.layout import Layout

_SCRIPT = str(Path(supervisor.__file__).resolve())

# In a session of its own and no child of ours, so that whoever calls `up` has nothing to wait for.
_DETACH = ("setsid", "--fork")
_UNSHARE = (
    *("unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child"),
    *("--mount", "--propagation=slave", "--mount-proc"),
)

# Seconds. On a disk that is busy writing (environments just unpacked, images just built) a program may take half a
# minute to start, and as long to end when it is killed: what waits for the disk dies only once it has been served.
_PATIENCE = 120

# Programs that have these paths built in find directories of the cluster's own there, in its mount namespace only.
MADE_POINTS = {Path("/var/lib/kubelet"): "kubelet", Path("/var/lib/cni"): "cni"}
_MOUNT_POINTS = {**MADE_POINTS, Path("/var/log"): "var-log"}

# kubelet writes these kernel settings if they differ. They are the whole machine's, so it is shown what it wants.
_KERNEL_SETTINGS = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}

_PREPARE_MOUNTS = """
set -eu
root=$1; shift
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/settings
while [ "$1" != -- ]; do mount --bind "$root/$1" "$2"; shift 2; done; shift
for setting; do
  mkdir -p "/run/settings/$(dirname "${setting%%=*}")"
  echo "${setting#*=}" > "/run/settings/${setting%%=*}"
  mount --bind "/run/settings/${setting%%=*}" "/proc/sys/${setting%%=*}"
done
mount --make-rshared /
"""


class Sandbox:
    """A private network, mount, PID and IPC namespace whose process 1 is the supervisor."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def pid(self) -> int | None:
        """The host's id of the cluster's process 1, or None when the cluster does not run."""
        return next((pid for pid, argv in self._processes() if not _is_launcher(argv)), None)

    def create(self) -> None:
        """Start the namespaces and their supervisor, detached from the caller, and prepare the mounts.

        Raises:
            ClusterError: the namespaces cannot be made, or the supervisor does not come up.
        """
        layout = self._layout
        for name in _MOUNT_POINTS.values():
            (layout.root / name).mkdir(parents=True, exist_ok=True)
        for point in MADE_POINTS:
            point.mkdir(parents=True, exist_ok=True)
        layout.socket.unlink(missing_ok=True)
        layout.logs.mkdir(parents=True, exist_ok=True)
        log = layout.logs / "supervisor.log"
        supervise = [sys.executable, "-I", _SCRIPT, str(layout.root)]
        with log.open("wb") as output:
            subprocess.run(
                [*_DETACH, *_UNSHARE, *supervise],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                check=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not layout.socket.exists():
            if not self._processes() or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip()
                raise ClusterError(f"the namespaces could not be made: {said} ({log})")
            time.sleep(0.01)
        settings = [f"{name}={value}" for name, value in _KERNEL_SETTINGS.items()]
        binds = [text for point, name in _MOUNT_POINTS.items() for text in (name, str(point))]
        self.execute(["sh", "-c", _PREPARE_MOUNTS, "prepare", str(layout.root), *binds, "--", *settings])

    def execute(
        self, argv: Sequence[str], *, stdin: Path = Path(os.devnull), timeout: float = _PATIENCE
    ) -> str:
        """Run a program inside the namespaces and return its standard output.

        Args:
            argv: the program and its arguments.
            stdin: a file of the host's, which need not be visible inside.
            timeout: seconds.

        Raises:
            ClusterError: the cluster does not run, or the program fails; the message holds its standard error.
        """
        pid = self.pid()
        if pid is None:
            raise ClusterError(f"cluster {self._layout.identity} does not run")
        enter = ["nsenter", f"--target={pid}", "--mount", "--net", "--ipc", "--pid", "--"]
        try:
            with stdin.open("rb") as source:
                done = subprocess.run(
                    [*enter, *argv], stdin=source, capture_output=True, text=True, timeout=timeout, check=True
                )
        except subprocess.CalledProcessError as error:
            raise ClusterError(f"{' '.join(argv[:6])}: {error.stderr.strip()}") from error
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{' '.join(argv[:6])}: no end after {timeout} s") from error
        return done.stdout

    def start(self, component: Component, path: str) -> None:
        """Start a component unless it runs already; programs are looked up in `path`."""
        self._ask({"do": "start", "name": component.name, "argv": list(component.argv), "path": path})

    def stop(self, name: str) -> None:
        """Kill a component at once, as a power cut would, and wait until it has gone."""
        self._ask({"do": "signal", "name": name, "signal": int(signal.SIGKILL)})
        deadline = time.monotonic() + _PATIENCE
        while name in self.running():
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} is still there {_PATIENCE} s after it was killed")
            time.sleep(0.02)

    def running(self) -> set[str]:
        """The names of the components that run."""
        return {name for name, exit_status in self.exits().items() if exit_status is None}

    def exits(self) -> dict[str, int | None]:
        """Every component ever started, with its exit status, or None while it runs."""
        if self.pid() is None:
            return {}
        return {name: entry["exit"] for name, entry in self._ask({"do": "list"}).items()}

    def destroy(self) -> None:
        """Kill process 1, and with it everything in the namespaces; returns when all of it has gone.

        Raises:
            ClusterError: it is still there after two minutes.
        """
        supervisor_pid = self.pid()
        # `unshare` ends by itself once it has seen its child, process 1, end. Process 1 ends last of its namespace.
        for pid in [pid for pid, _ in self._processes()] if supervisor_pid is None else [supervisor_pid]:
            with contextlib.suppress(ProcessLookupError):  # ended by itself in between
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE
        while processes := self._processes():
            if time.monotonic() > deadline:
                raise ClusterError(f"processes of {self._layout.identity} cannot be killed: {processes}")
            time.sleep(0.01)

    def _processes(self) -> list[tuple[int, list[str]]]:
        """The launcher and the supervisor of this very cluster, zombies left out."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                except OSError:  # ended while we looked
                    continue
                if argv[-2:] == [_SCRIPT, str(self._layout.root)]:
                    found.append((int(entry.name), argv))
        return found

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(self._layout.socket))
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as lines:
                    answer: dict[str, Any] = json.loads(lines.readline())
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"the supervisor of {self._layout.identity} does not answer: {error}"
            ) from error
        if "error" in answer:
            raise ClusterError(f"{request['do']} {request.get('name', '')}: {answer['error']}")
        return answer


def _is_launcher(argv: list[str]) -> bool:
    return Path(argv[0]).name in (_DETACH[0], _UNSHARE[0])
