"""Where one cluster lives: its identity and every path and name derived from it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

STATE_ROOT = Path("/var/lib/pilothouse")
LOCK_ROOT = Path("/run/lock")
CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_NAME = "dev"
NODE_NAME = "node"

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?")


@dataclass(frozen=True)
class Layout:
    """The paths and names of the cluster called `name` of the checkout at `checkout`.

    Two checkouts that use the same name get two identities, so each has its own directory, interface and cgroup.
    """

    name: str = DEFAULT_NAME
    checkout: Path = CHECKOUT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"cluster name {self.name!r}: must be lower-case letters, digits and '-', begin with a letter, "
                "end with a letter or digit, and have at most 24 characters"
            )

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that stand for checkout and name."""
        return hashlib.sha256(f"{self.checkout}\0{self.name}".encode()).hexdigest()[:8]

    @property
    def identity(self) -> str:
        """Unique on this machine; also the name of the cluster's directory."""
        return f"{self.name}-{self.digest}"

    @property
    def root(self) -> Path:
        """The directory that holds everything of this cluster on disk."""
        return STATE_ROOT / self.identity

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def state_file(self) -> Path:
        """What `up` decided for this cluster (its addresses, its mode)."""
        return self.root / "cluster.json"

    @property
    def logs(self) -> Path:
        """One log file per component."""
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration files."""
        return self.root / "config"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket."""
        return self.root / "supervisor.sock"

    @property
    def lock(self) -> Path:
        """Held by `up` and `down` of this cluster; on a tmpfs, so that it never outlives a boot."""
        return LOCK_ROOT / f"pilothouse-{self.identity}.lock"

    @property
    def interface(self) -> str:
        """The host's end of the veth pair (at most 15 characters)."""
        return f"ph-{self.digest}"

    @property
    def cgroup(self) -> str:
        """The cgroup, directly below the root of every hierarchy, that holds the pods."""
        return f"pilothouse-{self.identity}"
