"""The embedded cluster, or the user's own, behind one face."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dev.cluster import external, state
from dev.cluster.embedded import Embedded
from dev.cluster.errors import ClusterError
from dev.cluster.layout import DEFAULT_NAME, Layout
from dev.cluster.report import Report


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers.

    Attributes:
        kubeconfig: an administrator's kubeconfig.
        host_address: where pods reach a server that runs on this machine (and listens on all addresses).
        has_node: whether pods can run.
    """

    kubeconfig: Path
    host_address: str
    has_node: bool
    _embedded: Embedded | None = field(default=None, repr=False, compare=False)

    @property
    def embedded(self) -> bool:
        """Whether this is a cluster of ours, rather than one that KUBECONFIG names."""
        return self._embedded is not None

    def import_image(self, archive: Path) -> None:
        """Load an image archive (OCI or `docker save` layout) into the node.

        Raises:
            ClusterError: the archive cannot be read, there is no node, or the cluster is not embedded.
        """
        self._own("images are imported").import_image(archive)

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own command line client on the node; returns its standard output.

        Raises:
            ClusterError: it fails, there is no node, or the cluster is not embedded.
        """
        return self._own("containerd is asked").ctr(*arguments)

    def stop_apiserver(self) -> None:
        """Kill the API server, as if its machine had lost power; what it stored is kept.

        Raises:
            ClusterError: the cluster is not embedded or does not run.
        """
        self._own("the API server is stopped").stop_apiserver()

    def start_apiserver(self) -> None:
        """Start the API server again and wait until it serves.

        Raises:
            ClusterError: it does not come up, or the cluster is not embedded.
        """
        embedded = self._own("the API server is started")
        embedded.start_apiserver(_state(embedded))

    def execute(self, argv: Sequence[str], *, timeout: float = 60) -> str:
        """Run a program inside the cluster's namespaces (its network, its mounts); returns its standard output.

        Raises:
            ClusterError: the program fails, or the cluster is not embedded.
        """
        return self._own("programs are run inside").sandbox.execute(argv, timeout=timeout)

    def _own(self, action: str) -> Embedded:
        if self._embedded is None:
            raise ClusterError(
                f"{action} in embedded clusters only; {self.kubeconfig} names one of the user's own"
            )
        return self._embedded


@dataclass(frozen=True)
class Status:
    """What `status` found. `components` maps each one started to its exit status, or None while it runs."""

    cluster: Cluster | None
    identity: str
    components: dict[str, int | None]

    @property
    def healthy(self) -> bool:
        """Whether the cluster is there and nothing of it has ended."""
        return self.cluster is not None and all(status is None for status in self.components.values())


def up(
    name: str = DEFAULT_NAME, *, control_plane_only: bool = False, report: Report | None = None
) -> Cluster:
    """The cluster that KUBECONFIG names, else the embedded one called `name`, started if it does not run.

    Args:
        name: tells the embedded clusters of one checkout apart.
        control_plane_only: start no node; one that already runs is kept.
        report: where progress is told.

    Raises:
        ClusterError: there is no cluster to be had; the message says why and what to do.
        ValueError: `name` is malformed.
    """
    if (kubeconfig := external.named()) is not None:
        external.check(kubeconfig)
        return Cluster(kubeconfig, external.host_address(kubeconfig), has_node=True)
    embedded = Embedded(Layout(name), report or Report())
    return _face(embedded, embedded.up(has_node=not control_plane_only))


def down(name: str = DEFAULT_NAME, *, report: Report | None = None) -> None:
    """Remove the embedded cluster called `name`; a cluster that KUBECONFIG names is left alone.

    Raises:
        ClusterError: something of it cannot be removed; the message names it.
        ValueError: `name` is malformed.
    """
    report = report or Report()
    if (kubeconfig := external.named()) is not None:
        report.say(f"KUBECONFIG names {kubeconfig}, which is not ours to take down: nothing done")
        return
    Embedded(Layout(name), report).down()


def status(name: str = DEFAULT_NAME) -> Status:
    """What there is now; starts nothing.

    Raises:
        ClusterError: KUBECONFIG names a cluster that does not answer.
        ValueError: `name` is malformed.
    """
    if (kubeconfig := external.named()) is not None:
        external.check(kubeconfig)
        return Status(
            Cluster(kubeconfig, external.host_address(kubeconfig), has_node=True), str(kubeconfig), {}
        )
    embedded = Embedded(Layout(name), Report())
    known = state.read(embedded.layout)
    if known is None or embedded.sandbox.pid() is None:
        return Status(None, embedded.layout.identity, {})
    return Status(_face(embedded, known), embedded.layout.identity, embedded.sandbox.exits())


def _face(embedded: Embedded, known: state.State) -> Cluster:
    return Cluster(embedded.layout.kubeconfig, str(known.addresses.host), known.has_node, embedded)


def _state(embedded: Embedded) -> state.State:
    known = state.read(embedded.layout)
    if known is None:
        raise ClusterError(f"cluster {embedded.layout.identity} does not run")
    return known
