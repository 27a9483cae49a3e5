"""The veth pair between host and cluster, and the host's routes to pods and Services."""

import json
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Network

from dev.cluster.addresses import Addresses, routed_networks
from dev.cluster.errors import ClusterError
from dev.cluster.layout import Layout
from dev.cluster.sandbox import Sandbox

_INSIDE = "eth0"

# No rate limit: every refusal (a port or Service that nobody serves) has to arrive, or a client waits in vain.
# The last route: processes of the node itself need some route for a ClusterIP before iptables may rewrite it.
_PREPARE_INSIDE = """
set -eu
ip link set lo up
ip address add "$2" dev "$1"
ip link set "$1" up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
ip route add "$4" via "$3" dev "$1"
"""

# A ClusterIP that no Service has is refused at once, instead of wandering between host and node.
_REFUSE_UNKNOWN_SERVICES = """
set -eu
for chain in FORWARD OUTPUT; do
  iptables -w -C "$chain" -d "$1" -j REJECT 2>/dev/null || iptables -w -A "$chain" -d "$1" -j REJECT
done
"""


def taken_networks() -> list[IPv4Network]:
    """Every network that this machine has an address in or a route to."""
    return routed_networks(_ip("-4", "-json", "route", "show", "table", "all"))


def link_exists(layout: Layout, addresses: Addresses) -> bool:
    """Whether the host still has this cluster's interface and its routes."""
    listed = _ip("-4", "-json", "route", "show", "table", "main")
    routes = {route["dst"] for route in json.loads(listed or "[]") if route.get("dev") == layout.interface}
    return {str(addresses.link), str(addresses.services), str(addresses.pods)} <= routes


def connect(layout: Layout, sandbox: Sandbox, addresses: Addresses) -> None:
    """Join the cluster's network namespace to the host and route pods and Services there.

    Raises:
        ClusterError: the machine refuses a link, an address or a route.
    """
    outside = layout.interface
    prefix = addresses.link.prefixlen
    pid = sandbox.pid()
    _ip("link", "add", outside, "type", "veth", "peer", "name", _INSIDE, "netns", str(pid))
    arguments = [_INSIDE, f"{addresses.node}/{prefix}", str(addresses.host), str(addresses.services)]
    sandbox.execute(["sh", "-c", _PREPARE_INSIDE, "prepare", *arguments])
    _ip("address", "add", f"{addresses.host}/{prefix}", "dev", outside)
    _ip("link", "set", outside, "up")
    for network in (addresses.services, addresses.pods):
        _ip("route", "add", str(network), "via", str(addresses.node), "dev", outside)


def refuse_unknown_services(sandbox: Sandbox, addresses: Addresses) -> None:
    """Answer connections to unused ClusterIPs with an ICMP error; kube-proxy's own rules come before this one."""
    sandbox.execute(["sh", "-c", _REFUSE_UNKNOWN_SERVICES, "refuse", str(addresses.services)])


def disconnect(layout: Layout) -> None:
    """Remove the host's end of the pair, if it is there; its addresses and routes go with it."""
    if not _connected(layout):
        return
    try:
        _ip("link", "delete", layout.interface)
    except ClusterError:
        # The kernel takes a pair away by itself, in its own time, when the namespace at its other end has ended.
        if _connected(layout):
            raise


def _connected(layout: Layout) -> bool:
    links = json.loads(_ip("-json", "link", "show") or "[]")
    return any(link["ifname"] == layout.interface for link in links)


def _ip(*arguments: str) -> str:
    command: Sequence[str] = ("ip", *arguments)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{' '.join(command)}: {error.stderr.strip()}") from error
