"""What the machine must allow, checked before anything is touched."""

import os
from pathlib import Path

from dev.cluster import binaries
from dev.cluster.errors import ClusterError

# <linux/capability.h>: bit numbers in CapEff of /proc/self/status
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}


def missing_capabilities(status: str) -> list[str]:
    """The needed capabilities that a process lacks, by the text of its /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], base=16)
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def require(command: str) -> None:
    """See that this process may make namespaces, mounts and network interfaces.

    Args:
        command: what the user should run as root.

    Raises:
        ClusterError: it may not; the message lists all that is missing and what to do.
    """
    problems = []
    if os.geteuid() != 0:
        problems.append(f"root: you are user {os.geteuid()}; run `sudo --preserve-env {command}`")
    elif lacking := missing_capabilities(Path("/proc/self/status").read_text()):
        problems.append(f"{', '.join(lacking)}: run the container that this is with --privileged")
    if problems:
        problems += binaries.missing()
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ClusterError(
            f"the embedded cluster cannot run; missing:\n{listed}\nOr set KUBECONFIG to a cluster that you have."
        )
