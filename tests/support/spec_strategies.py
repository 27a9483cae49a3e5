"""Specs that the CRD's schema takes, drawn so that they often lie on either side of the rules beyond it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

HOSTS = st.sampled_from(["models.example.com", "10.0.0.1:8080", "me:secret@host", "", "host", "@", "[::1]"])
PATHS = st.sampled_from(
    [
        "",
        "/",
        "//",
        "/digits.pt",
        "digits.pt",
        "/a/../b.pt",
        "/..",
        "/..a/b",
        "/?sig=abc",
        "/a?b=/../",
        "/é.pt",
        "/a@b",
    ]
)
URIS = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["file", "http", "https", "pvc"]),
    st.one_of(st.just(""), HOSTS),
    PATHS,
).filter(lambda uri: not uri.endswith("://"))
DURATIONS = st.sampled_from(
    [
        "500ms",
        "999ms",
        "1s",
        "0s",
        "0h0m0s",
        "30s",
        "10m",
        "1h30m",
        "24h",
        "23h60m",
        "24h1ms",
        "1.5h",
        "999999h",
        "0.5s",
    ]
)
QUANTITIES = st.one_of(
    st.integers(0, 4),
    st.sampled_from(["0", "1", "500m", "1000m", "0.5", "2", "1Gi", "1024Mi", "1e3", "1k", "1M"]),
)
RESOURCE_NAMES = st.sampled_from(
    ["cpu", "memory", "nvidia.com/gpu", "nvidia.com/mig-1g.5gb", "amd.com/gpu", "x.com/nvidia.com"]
)
KEYS = st.sampled_from(
    [
        "team",
        "example.com/team",
        "-team",
        "team-",
        "",
        "a/b/c",
        "Upper.com/x",
        "pilothouse.dev/model",
        "pilothouse.dev",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/managed-by2",
        "a" * 63,
        "a" * 64,
        "team\n",
        "é",
    ]
)
VALUES = st.sampled_from(["", "vision", "a.b_c-d"])
NAMES = st.sampled_from(["a", "b", "image", "PILOTHOUSE_X", "pilothouse_x", "X_PILOTHOUSE_"])

_TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b", "image"]),
        "datatype": st.sampled_from(["FP32", "INT64", "BOOL"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
    }
)
_KEY_REF = st.fixed_dictionaries(
    {"name": st.just("secrets"), "key": st.just("token")}, optional={"optional": st.booleans()}
)
_SOURCE = st.fixed_dictionaries(
    {},
    optional={
        "configMapKeyRef": _KEY_REF,
        "secretKeyRef": _KEY_REF,
        "fieldRef": st.just({"fieldPath": "status.podIP"}),
        "resourceFieldRef": st.just({"resource": "limits.cpu", "divisor": 1}),
    },
)
_ENV = st.fixed_dictionaries({"name": NAMES}, optional={"value": VALUES, "valueFrom": _SOURCE})
_TOLERATION = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from(["", "gpu"]),
        "operator": st.sampled_from(["Exists", "Equal"]),
        "value": VALUES,
        "effect": st.sampled_from(["NoSchedule", "NoExecute"]),
        "tolerationSeconds": st.integers(-1, 60),
    },
)
_AMOUNTS = st.dictionaries(RESOURCE_NAMES, QUANTITIES, max_size=3)
_MAP = st.dictionaries(KEYS, VALUES, max_size=3)

MODELS = st.fixed_dictionaries(
    {"uri": URIS},
    optional={
        "version": st.sampled_from(["", "1", "2.0"]),
        "digest": st.just(f"sha256:{'0' * 64}"),
        "format": st.sampled_from(["auto", "torchscript", "exported"]),
        "inputs": st.lists(_TENSOR, max_size=3),
        "outputs": st.lists(_TENSOR, max_size=3),
    },
)
RUNTIMES = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["", "pilothouse/runtime:1"]),
        "device": st.sampled_from(["auto", "cpu", "cuda"]),
        "resources": st.fixed_dictionaries({}, optional={"requests": _AMOUNTS, "limits": _AMOUNTS}),
        "env": st.lists(_ENV, max_size=3, unique_by=lambda item: str(item["name"])),
        "nodeSelector": _MAP,
        "tolerations": st.lists(_TOLERATION, max_size=2),
        "affinity": st.sampled_from([{}, {"nodeAffinity": {}}, {"podAffinity": {"x": [1]}}]),
        "serviceAccountName": st.sampled_from(["", "vision"]),
        "imagePullSecrets": st.lists(st.just({"name": "registry"}), max_size=1),
        "podAnnotations": _MAP,
        "podLabels": _MAP,
        "terminationGracePeriodSeconds": st.sampled_from([10, 30, 600]),
    },
)
ROLLOUTS = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.just("RollingUpdate"),
        "progressDeadline": DURATIONS,
        "scaleDownDelay": DURATIONS,
        "revisionHistoryLimit": st.sampled_from([0, 5, 100]),
    },
)
SPECS = st.fixed_dictionaries(
    {"model": MODELS},
    optional={"runtime": RUNTIMES, "replicas": st.integers(0, 1000), "rollout": ROLLOUTS},
)


def model_deployment(spec: Json, name: str = "digits") -> Json:
    """Put a spec into a ModelDeployment."""
    return {
        "apiVersion": "pilothouse.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
