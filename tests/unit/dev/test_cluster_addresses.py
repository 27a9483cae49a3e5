"""The addresses of an embedded cluster."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.cluster.addresses import POOL, choose, routed_networks
from dev.cluster.errors import ClusterError

_NETWORKS = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.ip_addresses(v=4, network=str(POOL)),
    st.integers(min_value=9, max_value=32),
)


@given(st.text(max_size=20), st.lists(_NETWORKS, max_size=20))
def test_no_address_that_the_machine_can_already_reach_is_hidden(
    identity: str, taken: list[IPv4Network]
) -> None:
    try:
        chosen = choose(identity, taken)
    except ClusterError:
        # Only two halves of the pool, or what adds up to them, leave nothing.
        assert sum(network.num_addresses for network in taken) >= POOL.num_addresses / 2
        return
    assert chosen.block.subnet_of(POOL)
    assert not any(chosen.block.overlaps(network) for network in taken)


def test_the_same_cluster_gets_the_same_addresses_and_its_neighbour_others() -> None:
    first = choose("dev-1", [])
    assert choose("dev-1", []) == first
    assert choose("dev-2", [first.block]).block != first.block
    assert choose("dev-1", [first.link]).block != first.block


def test_link_services_and_pods_do_not_overlap() -> None:
    chosen = choose("dev", [])
    parts = [chosen.link, chosen.services, chosen.pods]
    assert all(part.subnet_of(chosen.block) for part in parts)
    assert not any(one.overlaps(other) for one in parts for other in parts if one != other)
    assert chosen.host in chosen.link
    assert chosen.node in chosen.link
    assert chosen.kubernetes_service == chosen.services.network_address + 1


def test_a_machine_whose_routes_cover_everything_is_told_so() -> None:
    with pytest.raises(ClusterError, match="cover all of it"):
        choose("dev", [POOL])


def test_routes_are_read_as_the_ip_command_prints_them() -> None:
    printed = json.dumps(
        [
            {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
            {"dst": "192.0.2.0/24", "dev": "eth0", "scope": "link"},
            {"type": "local", "dst": "192.0.2.2", "dev": "eth0", "table": "local"},
        ]
    )
    assert routed_networks(printed) == [IPv4Network("192.0.2.0/24"), IPv4Network("192.0.2.2/32")]
    assert routed_networks("") == []
