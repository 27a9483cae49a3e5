"""What the demo (and the end-to-end tests) put beside Pilothouse: a file server for models, and a client."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dev.images.recipe import OPERATOR, RUNTIME, RUNTIME_COMPILE, RUNTIME_TENSORFLOW
from dev.shell import ROOT

Json = dict[str, Any]
CLIENT_SCRIPT = ROOT / "examples/digits/client.py"
STORE = "models"
CLIENT = "client"
# Where the chart has each image.
_VALUES = {
    OPERATOR.name: ("", "image"),
    RUNTIME.name: ("runtime", "image"),
    RUNTIME_TENSORFLOW.name: ("runtime", "tensorflowImage"),
    RUNTIME_COMPILE.name: ("runtime", "compileImage"),
}
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def image_values(references: dict[str, str]) -> Json:
    """Return the chart's values for images of these references, by their names; for others the chart has its own."""
    values: Json = {"runtime": {}}
    for name, reference in references.items():
        repository, _, tag = reference.rpartition(":")
        where, field = _VALUES[name]
        (values[where] if where else values)[field] = {"repository": repository, "tag": tag}
    return values


def config_map(name: str, files: Mapping[str, bytes]) -> Json:
    """Return a ConfigMap that holds files of together less than 1 MiB."""
    data = {file: base64.b64encode(content).decode() for file, content in files.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": data}


def store(image: str, models: Sequence[Path]) -> list[Json]:
    """Return a file server for model files: any cluster can run it, with no storage class and nothing from outside."""
    labels = {"app": STORE}
    server = ["python3", "-m", "http.server", "8000", "--directory", "/models"]
    return [
        config_map(STORE, {path.name: path.read_bytes() for path in models}),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": STORE},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": pod_spec(STORE, image, server, {"/models": STORE})
                    | {"terminationGracePeriodSeconds": 1},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": STORE},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000, "protocol": "TCP"}]},
        },
    ]


def client(image: str, arguments: Sequence[str], *, name: str = CLIENT) -> Json:
    """Return a pod that runs examples/digits/client.py with `arguments`; its data is in the ConfigMap `client`."""
    command = ["python3", f"/client/{CLIENT_SCRIPT.name}", *arguments]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": CLIENT}},
        "spec": pod_spec(CLIENT, image, command, {"/client": CLIENT})
        | {"restartPolicy": "Never", "terminationGracePeriodSeconds": 20},
    }


def pod_spec(name: str, image: str, command: Sequence[str], mounts: Mapping[str, str]) -> Json:
    """Return the spec of a pod of one container, with ConfigMaps mounted: mounts maps path to ConfigMap."""
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    container: Json = {
        "name": name,
        "image": image,
        "command": list(command),
        "securityContext": _SECURITY,
        "volumeMounts": [{"name": map_, "mountPath": path} for path, map_ in mounts.items()],
    }
    if name == STORE:
        container["readinessProbe"] = probe
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": map_, "configMap": {"name": map_}} for map_ in mounts.values()],
    }
