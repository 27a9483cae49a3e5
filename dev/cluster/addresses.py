"""Private addresses for one cluster, chosen so that they hide nothing the machine can already reach."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dev.cluster.errors import ClusterError

POOL = IPv4Network("10.0.0.0/8")
_BLOCK_PREFIX = 22
_BLOCK_COUNT = 2 ** (_BLOCK_PREFIX - POOL.prefixlen)


@dataclass(frozen=True)
class Addresses:
    """One /22 of RFC 1918 space: the first /24 links host and node, the second is for Services, the third for pods."""

    block: IPv4Network

    @property
    def link(self) -> IPv4Network:
        """The veth pair's own network."""
        return IPv4Network((self.block.network_address, 30))

    @property
    def host(self) -> IPv4Address:
        """The host's end of the veth pair; pods reach servers that run on the host by it."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        """The cluster's end: the node's address and the API server's."""
        return self.link[2]

    @property
    def services(self) -> IPv4Network:
        """Where ClusterIPs come from."""
        return list(self.block.subnets(new_prefix=24))[1]

    @property
    def pods(self) -> IPv4Network:
        """Where pod addresses come from."""
        return list(self.block.subnets(new_prefix=24))[2]

    @property
    def kubernetes_service(self) -> IPv4Address:
        """The ClusterIP of the `kubernetes` Service: by definition the first of the range."""
        return self.services[1]

    @property
    def api_url(self) -> str:
        """The API server, as seen from the host and from every pod."""
        return f"https://{self.node}:6443"


def choose(identity: str, taken: Iterable[IPv4Network]) -> Addresses:
    """The first free block, beginning at one that depends on the cluster only.

    Args:
        identity: names the cluster; the same one gets the same block while nothing else claims it.
        taken: networks that the machine already has an address in or a route to.

    Raises:
        ClusterError: every block of the pool overlaps a taken network.
    """
    in_use = [network for network in taken if network.overlaps(POOL)]
    first = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big")
    for offset in range(_BLOCK_COUNT):
        start = int(POOL.network_address) + (first + offset) % _BLOCK_COUNT * 2 ** (32 - _BLOCK_PREFIX)
        block = IPv4Network((start, _BLOCK_PREFIX))
        if not any(block.overlaps(network) for network in in_use):
            return Addresses(block)
    raise ClusterError(f"no free /{_BLOCK_PREFIX} in {POOL}: the machine's routes cover all of it")


def routed_networks(ip_route_json: str) -> list[IPv4Network]:
    """The destinations in the output of `ip -4 -json route show table all`, the default route left out."""
    destinations = [str(route["dst"]) for route in json.loads(ip_route_json or "[]")]
    return [
        IPv4Network(destination, strict=False) for destination in destinations if destination != "default"
    ]
