"""What `up` decided for a cluster and the next command has to know, on disk."""

import hashlib
import json
from dataclasses import dataclass
from ipaddress import IPv4Network

from dev.cluster import components, config
from dev.cluster.addresses import Addresses
from dev.cluster.binaries import Binaries
from dev.cluster.layout import Layout


@dataclass(frozen=True)
class State:
    """Written before anything is started, so that whatever is found running can be understood."""

    addresses: Addresses
    has_node: bool
    recipe: str  # stands for how the components are configured and started


def recipe(layout: Layout, addresses: Addresses, programs: Binaries) -> str:
    """Differs from that of a running cluster when `up` would start something else by now."""
    parts = (
        programs.path,
        components.everything(layout, addresses),
        config.render(layout, addresses, programs.debian),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def read(layout: Layout) -> State | None:
    """The state on disk, or None when there is none or it was cut short."""
    try:
        document = json.loads(layout.state_file.read_text())
        addresses = Addresses(IPv4Network(document["block"]))
        return State(addresses, has_node=document["hasNode"], recipe=document["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(layout: Layout, state: State) -> None:
    """Put the state on disk in one step."""
    document = {"block": str(state.addresses.block), "hasNode": state.has_node, "recipe": state.recipe}
    unfinished = layout.state_file.with_suffix(".new")
    unfinished.write_text(json.dumps(document))
    unfinished.rename(layout.state_file)
