"""The configuration files of the components, rendered from the cluster's paths and addresses.

JSON is written where YAML is read: every JSON text is YAML. containerd reads TOML.
"""

import base64
import json
from pathlib import Path
from typing import Any

from dev.cluster.addresses import Addresses
from dev.cluster.layout import NODE_NAME, Layout

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/pilothouse/pause:1"
BUSYBOX_IMAGE = (
    "localhost/pilothouse/busybox:1"  # a shell, a web server and a client, in a cluster with no registry
)
KUBECONFIG_USERS = ("controller-manager", "scheduler", "kubelet-client", "kube-proxy")

Document = dict[str, Any]  # a JSON object: its values are whatever the component's schema says


def kubeconfig(server: str, pki: Path, user: str) -> Document:
    """A self-contained kubeconfig: the certificates are inside, so the file may be copied anywhere."""

    def inline(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pilothouse",
        "clusters": [
            {
                "name": "pilothouse",
                "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": inline(f"{user}.crt"),
                    "client-key-data": inline(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "pilothouse", "context": {"cluster": "pilothouse", "user": user}}],
    }


def kubelet(layout: Layout, addresses: Addresses) -> Document:
    """KubeletConfiguration (kubelet.config.k8s.io/v1beta1)."""
    pki = layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "failSwapOn": False,
        "readOnlyPort": 0,
        # There is no cluster DNS. Nothing listens on port 53 of the node, so a lookup is refused at once
        # instead of waiting for a server that no pod can reach.
        "clusterDNS": [str(addresses.node)],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.config / "resolv.conf"),
        # The disk belongs to the machine: how full it is says nothing about this cluster.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "nodeStatusUpdateFrequency": "5s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def kube_proxy(layout: Layout) -> Document:
    """KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NODE_NAME,
        "clientConnection": {"kubeconfig": str(layout.config / "kube-proxy.kubeconfig")},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # Zero leaves the kernel's own limits alone: they belong to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def cni(addresses: Addresses) -> Document:
    """A CNI network list: a routed veth pair per pod, so that no bridge and no bridge netfilter module is needed."""
    return {
        "cniVersion": "0.4.0",
        "name": "pilothouse",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni/networks",
                    "ranges": [[{"subnet": str(addresses.pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def containerd(layout: Layout, debian: Path) -> str:
    """containerd's configuration, version 2; `debian` is where Debian's packages are unpacked."""
    return f"""\
version = 2
root = "{layout.root}/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.root}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Lowering a score needs CAP_SYS_RESOURCE, which a container or a sandboxed machine may lack.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{debian}/usr/lib/cni"
  conf_dir = "{layout.config}/cni"
"""


def render(layout: Layout, addresses: Addresses, debian: Path) -> dict[Path, str]:
    """The content of every file that a component is started with and that holds no key."""
    return {
        layout.config / "kubelet.json": _json(kubelet(layout, addresses)),
        layout.config / "kube-proxy.json": _json(kube_proxy(layout)),
        layout.config / "cni" / "10-pilothouse.conflist": _json(cni(addresses)),
        layout.config / "resolv.conf": f"nameserver {addresses.node}\n",
        layout.config / "containerd.toml": containerd(layout, debian),
    }


def write_all(layout: Layout, addresses: Addresses, debian: Path) -> None:
    """Write what `render` returns, and a kubeconfig for the administrator and for each component."""
    (layout.config / "cni").mkdir(parents=True, exist_ok=True)
    for path, text in render(layout, addresses, debian).items():
        path.write_text(text)
    users = {layout.config / f"{user}.kubeconfig": user for user in KUBECONFIG_USERS}
    for path, user in {**users, layout.kubeconfig: "admin"}.items():
        path.touch(mode=0o600)
        path.write_text(_json(kubeconfig(addresses.api_url, layout.pki, user)))


def _json(document: Document) -> str:
    return json.dumps(document, indent=2) + "\n"
