"""What `up` decided for a cluster and the next command has to know, on disk."""

import json
from dataclasses import dataclass
from ipaddress import IPv4Network

from dev.cluster.addresses import Addresses
from dev.cluster.layout import Layout


@dataclass(frozen=True)
class State:
    """Written before anything is started, so that whatever is found running can be understood."""

    addresses: Addresses
    has_node: bool


def read(layout: Layout) -> State | None:
    """The state on disk, or None when there is none or it was cut short."""
    try:
        document = json.loads(layout.state_file.read_text())
        return State(Addresses(IPv4Network(document["block"])), bool(document["hasNode"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(layout: Layout, state: State) -> None:
    """Put the state on disk in one step."""
    unfinished = layout.state_file.with_suffix(".new")
    unfinished.write_text(json.dumps({"block": str(state.addresses.block), "hasNode": state.has_node}))
    unfinished.rename(layout.state_file)
