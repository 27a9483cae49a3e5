"""How each component is started: its name and its argument list, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from dev.cluster.addresses import Addresses
from dev.cluster.config import CONTAINERD_SOCKET
from dev.cluster.layout import NODE_NAME, Layout

ETCD_URL = "http://127.0.0.1:2379"
API_SERVER = "kube-apiserver"
API_PORT = 6443
CONTROLLER_PORTS = {"kube-controller-manager": 10257, "kube-scheduler": 10259}


@dataclass(frozen=True)
class Component:
    """A program of the cluster; `argv[0]` is found on the components' own PATH."""

    name: str
    argv: tuple[str, ...]


def etcd() -> Component:
    """etcd on the loopback of the cluster's own network namespace, its data on that namespace's tmpfs."""
    peer = "http://127.0.0.1:2380"
    return _component(
        "etcd",
        data_dir="/run/etcd",
        listen_client_urls=ETCD_URL,
        advertise_client_urls=ETCD_URL,
        listen_peer_urls=peer,
        initial_advertise_peer_urls=peer,
        initial_cluster=f"default={peer}",
        logger="zap",
        log_level="warn",
    )


def kube_apiserver(layout: Layout, addresses: Addresses) -> Component:
    """The API server: TLS client certificates and ServiceAccount tokens, RBAC, no audit log."""
    pki = layout.pki
    return _component(
        API_SERVER,
        advertise_address=addresses.node,
        bind_address="0.0.0.0",  # noqa: S104 - every address of the cluster's own network namespace
        secure_port=API_PORT,
        etcd_servers=ETCD_URL,
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        allow_privileged="true",
        client_ca_file=pki / "ca.crt",
        tls_cert_file=pki / "apiserver.crt",
        tls_private_key_file=pki / "apiserver.key",
        kubelet_certificate_authority=pki / "ca.crt",
        kubelet_client_certificate=pki / "apiserver-kubelet-client.crt",
        kubelet_client_key=pki / "apiserver-kubelet-client.key",
        kubelet_preferred_address_types="InternalIP",
        service_account_issuer="https://kubernetes.default.svc.cluster.local",
        service_account_key_file=pki / "service-account.pub",
        service_account_signing_key_file=pki / "service-account.key",
        service_cluster_ip_range=addresses.services,
        profiling="false",
    )


def kube_controller_manager(layout: Layout, addresses: Addresses) -> Component:
    """Every default controller, each with its own ServiceAccount."""
    return _controller(
        "kube-controller-manager",
        layout,
        addresses,
        kubeconfig="controller-manager",
        secure_port=CONTROLLER_PORTS["kube-controller-manager"],
        use_service_account_credentials="true",
        service_account_private_key_file=layout.pki / "service-account.key",
        root_ca_file=layout.pki / "ca.crt",
        cluster_signing_cert_file=layout.pki / "ca.crt",
        cluster_signing_key_file=layout.pki / "ca.key",
        # After an API server that was away for longer than this (40 s unless told otherwise), the node counts as dead
        # until it is heard of, and its pods as not ready: whoever comes first, this controller or the node, decides.
        node_monitor_grace_period="5m",
        pvclaimbinder_sync_period="1s",  # a claim whose first binding lost a race is tried again only then
        horizontal_pod_autoscaler_sync_period="3s",  # also how long a new autoscaler is not looked at: 15 s by default
    )


def kube_scheduler(layout: Layout, addresses: Addresses) -> Component:
    """The default scheduler."""
    port = CONTROLLER_PORTS["kube-scheduler"]
    return _controller("kube-scheduler", layout, addresses, kubeconfig="scheduler", secure_port=port)


def _controller(
    name: str, layout: Layout, addresses: Addresses, *, kubeconfig: str, **flags: object
) -> Component:
    """A client of the API server that is alone, so without leader election, and shows its health on the node."""
    path = layout.config / f"{kubeconfig}.kubeconfig"
    return _component(
        name,
        kubeconfig=path,
        authentication_kubeconfig=path,
        authorization_kubeconfig=path,
        bind_address=addresses.node,
        port=0,
        tls_cert_file=layout.pki / "controllers.crt",
        tls_private_key_file=layout.pki / "controllers.key",
        leader_elect="false",
        profiling="false",
        **flags,
    )


def containerd(layout: Layout) -> Component:
    """The container runtime."""
    return Component("containerd", ("containerd", "--config", str(layout.config / "containerd.toml")))


def kubelet(layout: Layout, addresses: Addresses) -> Component:
    """The node's agent."""
    return _component(
        "kubelet",
        config=layout.config / "kubelet.json",
        kubeconfig=layout.config / "kubelet-client.kubeconfig",
        hostname_override=NODE_NAME,
        node_ip=addresses.node,
        container_runtime="remote",
        container_runtime_endpoint=f"unix://{CONTAINERD_SOCKET}",
        root_dir="/var/lib/kubelet",
    )


def kube_proxy(layout: Layout) -> Component:
    """Services by iptables, inside the cluster's own network namespace."""
    return _component("kube-proxy", config=layout.config / "kube-proxy.json")


def store_and_api(layout: Layout, addresses: Addresses) -> Sequence[Component]:
    """What must serve before anything else of the control plane can start."""
    return (etcd(), kube_apiserver(layout, addresses))


def controllers(layout: Layout, addresses: Addresses) -> Sequence[Component]:
    """The rest of the control plane."""
    return (kube_controller_manager(layout, addresses), kube_scheduler(layout, addresses))


def node_agents(layout: Layout, addresses: Addresses) -> Sequence[Component]:
    """What makes a node out of a running containerd."""
    return (kubelet(layout, addresses), kube_proxy(layout))


def everything(layout: Layout, addresses: Addresses) -> Sequence[Component]:
    """All components of a cluster with a node."""
    control_plane = (*store_and_api(layout, addresses), *controllers(layout, addresses))
    return (*control_plane, containerd(layout), *node_agents(layout, addresses))


def _component(name: str, **flags: object) -> Component:
    arguments = (f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items())
    return Component(name, (name, *arguments))
