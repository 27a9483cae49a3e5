"""The names of an embedded cluster, and which cluster KUBECONFIG means."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.cluster import external, layout, state
from dev.cluster.addresses import choose
from dev.cluster.binaries import Binaries
from dev.cluster.errors import ClusterError
from dev.cluster.layout import Layout
from dev.cluster.state import State


def test_two_checkouts_and_two_names_share_nothing() -> None:
    layouts = [Layout(name, Path(checkout)) for name in ("dev", "tests") for checkout in ("/a", "/b")]
    for attribute in ("root", "interface", "cgroup", "lock"):
        assert len({getattr(layout, attribute) for layout in layouts}) == len(layouts)


def test_the_kernel_and_a_unix_socket_accept_the_longest_name() -> None:
    longest = Layout("a" * 24, Path("/checkout"))
    assert len(longest.interface) <= 15
    assert len(str(longest.socket)) < 108


@pytest.mark.parametrize("name", ["", "Dev", "1dev", "dev_1", "dev-", "../dev", "a" * 25])
def test_a_name_that_cannot_be_a_directory_or_a_cgroup_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cluster name"):
        Layout(name)


def test_our_own_kubeconfig_does_not_count_as_the_user_s_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert external.named() is None
    monkeypatch.setenv("KUBECONFIG", str(Layout("dev").kubeconfig))
    assert external.named() is None
    monkeypatch.setenv("KUBECONFIG", "/home/someone/.kube/config")
    assert external.named() == Path("/home/someone/.kube/config")
    monkeypatch.setenv("KUBECONFIG", "/home/someone/one:/home/someone/two")
    with pytest.raises(ClusterError, match="several files"):
        external.named()


def test_a_state_that_is_not_whole_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "STATE_ROOT", tmp_path)
    where = Layout("dev")
    assert state.read(where) is None
    where.root.mkdir()
    written = State(choose("dev", []), has_node=True, recipe="abc")
    state.write(where, written)
    assert state.read(where) == written
    for text in ("", "{}", '{"block": "10.0.0.0/22"}', where.state_file.read_text()[:-5]):
        where.state_file.write_text(text)
        assert state.read(where) is None


def test_a_component_that_is_started_differently_makes_another_recipe() -> None:
    where, addresses = Layout("dev"), choose("dev", [])
    programs = Binaries(Path("/kubernetes"), Path("/debian"))
    recipe = state.recipe(where, addresses, programs)
    assert state.recipe(where, addresses, programs) == recipe
    assert state.recipe(where, addresses, Binaries(Path("/newer"), Path("/debian"))) != recipe
    assert state.recipe(where, choose("other", [addresses.block]), programs) != recipe
