"""The names of an embedded cluster, and which cluster KUBECONFIG means."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.cluster import external
from dev.cluster.layout import Layout


def test_two_checkouts_and_two_names_share_nothing() -> None:
    layouts = [Layout(name, Path(checkout)) for name in ("dev", "tests") for checkout in ("/a", "/b")]
    for attribute in ("root", "interface", "cgroup", "lock"):
        assert len({getattr(layout, attribute) for layout in layouts}) == len(layouts)


def test_the_kernel_and_a_unix_socket_accept_the_longest_name() -> None:
    layout = Layout("a" * 24, Path("/checkout"))
    assert len(layout.interface) <= 15
    assert len(str(layout.socket)) < 108


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
