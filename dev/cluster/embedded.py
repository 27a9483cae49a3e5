"""Bringing an embedded cluster up, healing it, taking it down."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from dev.cluster import (
    addresses,
    binaries,
    certificates,
    cgroups,
    client,
    components,
    config,
    network,
    state,
)
from dev.cluster.binaries import Binaries
from dev.cluster.components import API_SERVER, Component
from dev.cluster.config import BUSYBOX_IMAGE, CONTAINERD_SOCKET, PAUSE_IMAGE
from dev.cluster.errors import ClusterError
from dev.cluster.image import write_image
from dev.cluster.layout import LOCK_ROOT, STATE_ROOT, Layout
from dev.cluster.privileges import require
from dev.cluster.report import Report
from dev.cluster.sandbox import MADE_POINTS, Sandbox
from dev.cluster.state import State

_LOG_TAIL = 15
# Two clusters that start at the same moment must not choose the same addresses: one after the other.
_MACHINE_LOCK = LOCK_ROOT / "pilothouse-machine.lock"


class Embedded:
    """One cluster of this machine. Commands for one cluster exclude each other; several clusters do not."""

    def __init__(self, layout: Layout, report: Report) -> None:
        self.layout = layout
        self.sandbox = Sandbox(layout)
        self._report = report

    def up(self, *, has_node: bool) -> State:
        """Start what does not run yet; whatever a crash or a reboot left is cleared away first.

        Raises:
            ClusterError: it cannot be started; the message ends with the failing component's log.
        """
        require("python -m dev.cluster up")
        with self._locked(self.layout.lock):
            programs = binaries.ensure(self._report)
            known = self._usable(programs) or self._create(programs)
            known = replace(known, has_node=has_node or known.has_node)
            state.write(self.layout, known)
            self._start(programs, known)
        return known

    def down(self) -> None:
        """Leave nothing of the cluster: no process, mount, interface, route, iptables rule, cgroup or file.

        Raises:
            ClusterError: something cannot be removed; the message names it.
        """
        require("python -m dev.cluster down")
        with self._locked(self.layout.lock):
            existed = self.layout.root.exists()
            self._clear()
            with self._locked(_MACHINE_LOCK):
                if not any(STATE_ROOT.glob("*/")):
                    for point in MADE_POINTS:
                        with contextlib.suppress(OSError):  # the machine's own: not empty, or in use
                            point.rmdir()
        self._report.say(f"cluster {self.layout.identity} {'is gone' if existed else 'was not there'}")

    def start_apiserver(self, known: State) -> None:
        """Start the API server and wait until it serves.

        Raises:
            ClusterError: it does not come up; the message ends with its log.
        """
        self._run(components.store_and_api(self.layout, known.addresses), binaries.cached())
        self._wait("API server", lambda: client.api_ready(self.layout, known.addresses))

    def stop_apiserver(self) -> None:
        """Kill the API server; etcd keeps what it knew."""
        self.sandbox.stop(API_SERVER)

    def import_image(self, archive: Path) -> None:
        """Load an image archive (OCI or `docker save` layout) into the node's containerd.

        Raises:
            ClusterError: there is no node, or the archive cannot be read.
        """
        if "containerd" not in self.sandbox.running():
            raise ClusterError(f"cluster {self.layout.identity} has no node to import {archive} into")
        self.ctr("images", "import", "-", stdin=archive, timeout=600)

    def ctr(self, *arguments: str, stdin: Path = Path(os.devnull), timeout: float = 60) -> str:
        """Run containerd's own command line client in Kubernetes' namespace; returns its standard output."""
        program = str(binaries.cached().debian / "usr/bin/ctr")
        options = (f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io")
        return self.sandbox.execute([program, *options, *arguments], stdin=stdin, timeout=timeout)

    def _usable(self, programs: Binaries) -> State | None:
        """The state of a cluster that still runs, is still connected and is what `_create` would make; else None."""
        known = state.read(self.layout)
        if known is None or self.sandbox.pid() is None:
            return None
        if known.recipe != state.recipe(self.layout, known.addresses, programs):
            self._report.say(
                f"{self.layout.identity} was made by another version of dev/cluster: it is made anew"
            )
            return None
        return known if network.link_exists(self.layout, known.addresses) else None

    def _create(self, programs: Binaries) -> State:
        self._clear()
        layout = self.layout
        with self._locked(_MACHINE_LOCK):
            layout.root.mkdir(parents=True, mode=0o700)
            chosen = addresses.choose(layout.identity, network.taken_networks())
            self.sandbox.create()
            network.connect(layout, self.sandbox, chosen)
        certificates.write_all(layout.pki, chosen)
        config.write_all(layout, chosen, programs.debian)
        cgroups.create(layout.cgroup)
        self._report.say(
            f"namespaces, certificates and addresses ({chosen.block}) of {layout.identity} are made"
        )
        return State(chosen, has_node=False, recipe=state.recipe(layout, chosen, programs))

    def _clear(self) -> None:
        self.sandbox.destroy()
        network.disconnect(self.layout)
        cgroups.remove(self.layout.cgroup)
        if self.layout.root.exists():
            shutil.rmtree(self.layout.root)

    def _start(self, programs: Binaries, known: State) -> None:
        layout, reach = self.layout, known.addresses
        before = self.sandbox.running()
        self._run(components.store_and_api(layout, reach), programs)
        if known.has_node:
            self._run([components.containerd(layout)], programs)
            self._prepare_node(programs, known)
        self._wait("API server", lambda: client.api_ready(layout, reach))
        self._run(components.controllers(layout, reach), programs)
        if known.has_node:
            self._run(components.node_agents(layout, reach), programs)
        self._wait("controllers", lambda: client.controllers_ready(layout, reach))
        self._report.say(f"the control plane serves at {reach.api_url}")
        if known.has_node:
            self._wait("Services", lambda: client.services_ready(layout, reach))
            self._wait("node", lambda: client.node_ready(layout, reach))
            self._report.say("the node is Ready, Services are reachable from this machine")
        if self.sandbox.running() == before:
            self._report.say("everything was running already")

    def _prepare_node(self, programs: Binaries, known: State) -> None:
        network.refuse_unknown_services(self.sandbox, known.addresses)
        self._wait("containerd", self._containerd_answers)
        present = self.ctr("images", "list", "--quiet").split()
        for image, program in {
            PAUSE_IMAGE: programs.kubernetes / "pause",
            BUSYBOX_IMAGE: programs.debian / "bin/busybox",
        }.items():
            if image not in present:
                archive = self.layout.root / f"{program.name}.tar"
                write_image(program, image, archive)
                self.import_image(archive)

    def _containerd_answers(self) -> bool:
        try:
            self.ctr("version")
        except ClusterError:
            return False
        return True

    def _run(self, wanted: Iterable[Component], programs: Binaries) -> None:
        for component in wanted:
            self.sandbox.start(component, programs.path)

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        client.wait(what, condition, self._failure)

    def _failure(self) -> str | None:
        """The end of the log of a component that has ended, or None when all run."""
        for name, exit_status in self.sandbox.exits().items():
            if exit_status is not None:
                return f"{name} ended with status {exit_status}:\n{self._log_tail(name)}"
        return None

    def _log_tail(self, name: str) -> str:
        log = self.layout.logs / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines()[-_LOG_TAIL:] if log.exists() else []
        return "\n".join([*lines, f"({log})"])

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                self._report.say("another command is at work on this: waiting for it")
                flock(lock, LOCK_EX)
            yield
