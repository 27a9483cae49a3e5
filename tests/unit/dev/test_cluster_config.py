"""What the components of an embedded cluster are told."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path

import pytest

from dev.cluster import components, config
from dev.cluster.addresses import choose
from dev.cluster.certificates import write_all
from dev.cluster.layout import Layout

ADDRESSES = choose("test", [])
LAYOUT = Layout("test", Path("/checkout"))


def _flags(component: components.Component) -> dict[str, str]:
    pairs = (argument.removeprefix("--").split("=", 1) for argument in component.argv[1:])
    return dict(pairs)


def test_the_kubeconfig_holds_its_certificates_and_may_be_copied_anywhere(tmp_path: Path) -> None:
    write_all(tmp_path, ADDRESSES)
    document = config.kubeconfig(ADDRESSES.api_url, tmp_path, "admin")
    (cluster,), (user,), (context,) = document["clusters"], document["users"], document["contexts"]
    assert cluster["cluster"]["server"] == f"https://{ADDRESSES.node}:6443"
    assert (
        base64.b64decode(cluster["cluster"]["certificate-authority-data"])
        == (tmp_path / "ca.crt").read_bytes()
    )
    assert base64.b64decode(user["user"]["client-key-data"]) == (tmp_path / "admin.key").read_bytes()
    assert document["current-context"] == context["name"]
    assert context["context"] == {"cluster": cluster["name"], "user": user["name"]}
    assert not re.search(str(tmp_path), json.dumps(document))


def test_pods_live_below_the_cluster_s_own_cgroup() -> None:
    assert config.kubelet(LAYOUT, ADDRESSES)["cgroupRoot"] == f"/{LAYOUT.cgroup}"


def test_a_full_disk_evicts_no_pod_and_removes_no_image() -> None:
    document = config.kubelet(LAYOUT, ADDRESSES)
    assert not any("fs." in signal for signal in document["evictionHard"])
    assert document["imageGCHighThresholdPercent"] == 100


def test_a_pod_gets_an_address_that_the_host_routes() -> None:
    plugin = config.cni(ADDRESSES)["plugins"][0]
    assert plugin["ipam"]["ranges"] == [[{"subnet": str(ADDRESSES.pods)}]]


def test_containerd_reads_its_configuration() -> None:
    document = tomllib.loads(config.containerd(LAYOUT, Path("/debian")))
    cri = document["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == config.PAUSE_IMAGE
    assert cri["restrict_oom_score_adj"] is True
    assert cri["cni"] == {"bin_dir": "/debian/usr/lib/cni", "conf_dir": f"{LAYOUT.config}/cni"}
    assert document["root"].startswith(str(LAYOUT.root))


def test_the_api_server_checks_permissions_and_signs_tokens() -> None:
    flags = _flags(components.kube_apiserver(LAYOUT, ADDRESSES))
    assert flags["authorization-mode"] == "Node,RBAC"
    assert flags["advertise-address"] == str(ADDRESSES.node)
    assert flags["service-cluster-ip-range"] == str(ADDRESSES.services)
    assert flags["service-account-signing-key-file"].endswith("service-account.key")
    assert not any(flag.startswith("audit") for flag in flags)


@pytest.mark.parametrize(
    "component",
    [components.kube_controller_manager(LAYOUT, ADDRESSES), components.kube_scheduler(LAYOUT, ADDRESSES)],
)
def test_a_controller_outlives_an_api_server_that_is_away(component: components.Component) -> None:
    # With leader election a controller ends when it cannot renew its lease.
    assert _flags(component)["leader-elect"] == "false"


def test_no_component_stores_anything_outside_the_cluster_s_directory() -> None:
    everything = components.everything(LAYOUT, ADDRESSES)
    paths = [
        part
        for component in everything
        for part in re.findall(r"(?<![:\w/])/[\w/.-]+", " ".join(component.argv))
    ]
    # /run and /var/lib/kubelet are the cluster's own in its mount namespace.
    private = (str(LAYOUT.root), "/run/", "/var/lib/kubelet")
    assert [path for path in paths if not path.startswith(private)] == []
