"""Specs that the CRD's schema takes, drawn so that they often lie on either side of the rules beyond it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pilothouse.api.model import Format

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
        "/a/",
        "/a/b/c",
    ]
)
URIS = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["file", "http", "https", "pvc", "s3", "gs", "az", "hf", "oci"]),
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
        "2ms",
        "0.002s",
        "10s",
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
        "datatype": st.sampled_from(["FP32", "INT64", "BOOL", "BYTES"]),
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
        "format": st.sampled_from([str(format_) for format_ in Format]),
        "factory": st.sampled_from(["", "package.models:resnet"]),
        "secretName": st.sampled_from(["", "models-readonly"]),
        "inputs": st.lists(_TENSOR, max_size=3),
        "outputs": st.lists(_TENSOR, max_size=3),
    },
)
RUNTIMES = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["", "pilothouse/runtime:1"]),
        "device": st.sampled_from(["auto", "cpu", "cuda"]),
        "batching": st.fixed_dictionaries(
            {}, optional={"maxSize": st.sampled_from([1, 32, 4096]), "maxDelay": DURATIONS}
        ),
        "workers": st.sampled_from([1, 2, 64]),
        "optimize": st.sampled_from(["none", "compile", "bf16", "int8", "mmap"]),
        "accessLog": st.booleans(),
        "explain": st.booleans(),
        "sampling": st.fixed_dictionaries(
            {"rate": st.sampled_from(["1%", "0%", "00.5%", "0100.0%", "101%", "100.01%"])},
            optional={
                "claim": st.sampled_from(["", "samples"]),
                "uri": st.sampled_from(
                    ["", "s3://b/", "gs://b/a/../", "az://b/a", "s3://B/a/", "s3://b/a?/"]
                ),
                "secretName": st.sampled_from(["", "models-readonly", "samples"]),
                "maxMegabytes": st.sampled_from([64, 65]),
            },
        ),
        "drift": st.sampled_from(
            [
                {"uri": uri}
                for uri in (
                    "file:///golden.npz",
                    "https:///golden.npz",
                    "s3://data/golden.npz",
                    "hf://a/b",
                    "gs://a/b/",
                )
            ]
        ),
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
PERCENTAGES = st.sampled_from(
    ["0%", "1%", "0.5%", "99.9%", "100%", "100.0%", "0100%", "100.1%", "150%", "1000%"]
)
NUMBERS = st.sampled_from([-1, -0.5, 0, 0.0, 0.001, 0.5, 0.95, 1, 1.0, 1.5, 2, 1e300])

STEPS = st.fixed_dictionaries(
    {},
    optional={"weight": st.integers(0, 100), "for": DURATIONS, "pause": st.booleans()},
)
_QUERY = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["drift", "cost", "a-1"]),
        "query": st.just("avg(drift{revision='$(revision)'})"),
    },
    optional={"min": NUMBERS, "max": NUMBERS},
)
ANALYSES = st.fixed_dictionaries(
    {},
    optional={
        "interval": DURATIONS,
        "minRequests": st.sampled_from([1, 50]),
        "maxErrorRate": PERCENTAGES,
        "maxLatencyP99": DURATIONS,
        "maxLatencyP99Increase": PERCENTAGES,
        "prometheus": st.lists(_QUERY, max_size=3, unique_by=lambda item: str(item["name"])),
        "failureLimit": st.sampled_from([1, 3]),
        "onInconclusive": st.sampled_from(["Pause", "Rollback", "Promote"]),
    },
)
VALIDATIONS = st.fixed_dictionaries(
    {"uri": URIS, "metric": st.sampled_from(["accuracy", "meanSquaredError", "maxDifference"])},
    optional={
        "digest": st.just(f"sha256:{'0' * 64}"),
        "against": st.sampled_from(["Expected", "Stable"]),
        "min": NUMBERS,
        "max": NUMBERS,
        "timeout": DURATIONS,
    },
)
ROLLOUTS = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.sampled_from(["RollingUpdate", "Canary", "BlueGreen"]),
        "steps": st.lists(STEPS, max_size=3),
        "analysis": ANALYSES,
        "validation": VALIDATIONS,
        "autoPromote": st.booleans(),
        "surge": st.sampled_from([0, 1, 1000]),
        "onFailure": st.sampled_from(["Rollback", "Pause"]),
        "progressDeadline": DURATIONS,
        "scaleDownDelay": DURATIONS,
        "revisionHistoryLimit": st.sampled_from([0, 5, 100]),
    },
)
AUTOSCALING = st.fixed_dictionaries(
    {
        "maxReplicas": st.integers(1, 4),
        "target": st.fixed_dictionaries(
            {}, optional={"cpu": st.sampled_from([1, 70]), "concurrency": st.just(8)}
        ),
    },
    optional={"minReplicas": st.integers(1, 4)},
)
SPECS = st.fixed_dictionaries(
    {"model": MODELS},
    optional={
        "runtime": RUNTIMES,
        "replicas": st.integers(0, 1000),
        "autoscaling": AUTOSCALING,
        "rollout": ROLLOUTS,
        "paused": st.booleans(),
    },
)


def model_deployment(spec: Json, name: str = "digits") -> Json:
    """Put a spec into a ModelDeployment."""
    return {
        "apiVersion": "pilothouse.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
