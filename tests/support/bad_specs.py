"""Wrong ModelDeployments, one fault each: what is wrong, which field must be named, and who refuses it first."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

Json = dict[str, Any]


class Refused(Enum):
    """Who refuses a fault first."""

    SCHEMA = "schema"
    """The API server, on every Kubernetes: it never gets stored."""
    STRICT = "strict"
    """kubectl's validation and strict field validation; any other client's unknown field is dropped silently."""
    CEL = "cel"
    """The API server from Kubernetes 1.25 on; before that it is stored and shown as InvalidSpec."""
    OPERATOR = "operator"
    """The operator alone: it is stored and shown as InvalidSpec."""


class _Absent:
    """Takes a field away."""


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class BadSpec:
    """One fault.

    Attributes:
        id: names it in test reports.
        patch: what to merge into a good ModelDeployment; lists are replaced, ABSENT takes a field away.
        field: path that the operator's message must name; the API server's message names it or its parent.
        refused: who refuses it first.
    """

    id: str
    patch: Json
    field: str
    refused: Refused

    def apply(self, good: Json) -> Json:
        """Return `good` with the fault in it."""
        bad = copy.deepcopy(good)
        _merge(bad, self.patch)
        return bad


def good_model_deployment(name: str = "digits", namespace: str = "default") -> Json:
    """Return a ModelDeployment that has something to break in every corner and nothing wrong."""
    return {
        "apiVersion": "pilothouse.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {
                "uri": "file:///models/digits.pt",
                "version": "1",
                "digest": f"sha256:{'0123456789abcdef' * 4}",
                "format": "torchscript",
                "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
                "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
            },
            "runtime": {
                "device": "cpu",
                "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
                "env": [{"name": "OMP_NUM_THREADS", "value": "2"}],
                "podLabels": {"team": "vision"},
            },
            "replicas": 2,
            "rollout": {"strategy": "RollingUpdate", "progressDeadline": "2m"},
        },
    }


def _merge(target: Json, patch: Json) -> None:
    for key, value in patch.items():
        if value is ABSENT:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


def _spec(id_: str, spec: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    return BadSpec(id_, {"spec": spec}, f"spec.{field}", refused)


def _model(id_: str, model: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    return _spec(id_, {"model": model}, f"model.{field}", refused)


def _runtime(id_: str, runtime: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    return _spec(id_, {"runtime": runtime}, f"runtime.{field}", refused)


def _of_format(id_: str, format_: str, runtime: Json, field: str) -> BadSpec:
    """Return a fault that only both together are: a format, and what the runtime is to do with it."""
    model = {"format": format_}
    return _spec(id_, {"model": model, "runtime": runtime}, f"runtime.{field}", Refused.CEL)


def _rollout(id_: str, rollout: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    return _spec(id_, {"rollout": rollout}, f"rollout.{field}", refused)


def _with(good: Json, patch: Json) -> Json:
    """Return `good` with the fields of `patch` as they are there, or away where it says ABSENT."""
    return {key: value for key, value in (good | patch).items() if value is not ABSENT}


def _step(id_: str, step: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    """Return a canary rollout whose second step is `step`; `field` is one of the step's, or "" for the step."""
    where = f"steps[1].{field}".removesuffix(".")
    return _rollout(id_, CANARY | {"steps": [*CANARY["steps"][:1], step]}, where, refused)


def _analysis(id_: str, analysis: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    where = f"analysis.{field}".removesuffix(".")
    return _rollout(id_, CANARY | {"analysis": CANARY["analysis"] | analysis}, where, refused)


def _query(id_: str, query: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    good: Json = {"name": "drift", "query": "max(drift)", "max": 0.2}
    where = f"prometheus[0].{field}".removesuffix(".")
    return _analysis(id_, {"prometheus": [_with(good, query)]}, where, refused)


def _validation(id_: str, validation: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    """Return a blue/green rollout whose validation has the fault."""
    changed = BLUE_GREEN | {"validation": _with(BLUE_GREEN["validation"], validation)}
    return _rollout(id_, changed, f"validation.{field}", refused)


def _autoscaling(id_: str, autoscaling: Json, field: str, refused: Refused = Refused.SCHEMA) -> BadSpec:
    return _spec(id_, {"autoscaling": _with(AUTOSCALING, autoscaling)}, f"autoscaling.{field}", refused)


# Good ones with something to break.
CANARY: Final[Json] = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "for": "5m"}, {"weight": 50, "for": "10m"}, {"pause": True}],
    "analysis": {"interval": "30s", "maxErrorRate": "1%", "maxLatencyP99Increase": "50%"},
    "onFailure": "Pause",
}
BLUE_GREEN: Final[Json] = {
    "strategy": "BlueGreen",
    "validation": {"uri": "file:///models/golden.npz", "metric": "accuracy", "min": 0.95, "timeout": "2m"},
    "autoPromote": False,
}
NO_ROOM: Final[Json] = {"strategy": "RollingUpdate", "surge": 0}
AUTOSCALING: Final[Json] = {"minReplicas": 2, "maxReplicas": 4, "target": {"cpu": 70}}

_TENSOR: Final = {"name": "image", "datatype": "FP32", "shape": [-1, 64]}
_ON_GPU: Final = {"device": "cuda", "resources": {"limits": {"nvidia.com/gpu": 1}}}
_SAMPLES: Final = {"rate": "1%", "uri": "s3://samples/digits/"}

BAD_SPECS: Final = (
    # names
    BadSpec("name-too-long", {"metadata": {"name": "d" * 53}}, "metadata.name", Refused.SCHEMA),
    BadSpec("name-begins-with-digit", {"metadata": {"name": "2digits"}}, "metadata.name", Refused.SCHEMA),
    BadSpec("name-upper-case", {"metadata": {"name": "Digits"}}, "metadata.name", Refused.SCHEMA),
    BadSpec("name-with-dot", {"metadata": {"name": "digits.v2"}}, "metadata.name", Refused.SCHEMA),
    # the model as a whole
    BadSpec("no-spec", {"spec": ABSENT}, "spec.model", Refused.SCHEMA),
    _spec("no-model", {"model": ABSENT}, "model"),
    _spec("model-null", {"model": None}, "model"),
    _spec("model-is-text", {"model": "file:///models/digits.pt"}, "model"),
    _spec("unknown-field", {"model": {"urii": "x"}}, "model", Refused.STRICT),
    BadSpec("unknown-field-of-spec", {"spec": {"scaling": {"maxReplicas": 3}}}, "spec", Refused.STRICT),
    # where it is
    _model("no-uri", {"uri": ABSENT}, "uri"),
    _model("uri-empty", {"uri": ""}, "uri"),
    _model("uri-is-number", {"uri": 42}, "uri"),
    _model("uri-unknown-scheme", {"uri": "ftp://models/digits.pt"}, "uri"),
    _model("uri-without-scheme", {"uri": "/models/digits.pt"}, "uri"),
    _model("uri-host-and-port-only", {"uri": "models.example.com:8080/digits.pt"}, "uri"),
    _model("uri-with-space", {"uri": "file:///models/my digits.pt"}, "uri"),
    _model("uri-too-long", {"uri": f"https://models.example.com/{'x' * 4096}"}, "uri"),
    _model("uri-relative-file", {"uri": "file://models/digits.pt"}, "uri", Refused.CEL),
    _model("uri-http-without-file", {"uri": "https://models.example.com"}, "uri", Refused.CEL),
    _model("uri-http-without-host", {"uri": "https:///digits.pt"}, "uri", Refused.CEL),
    _model(
        "uri-with-password", {"uri": "https://me:secret@models.example.com/digits.pt"}, "uri", Refused.CEL
    ),
    _model("uri-pvc-without-path", {"uri": "pvc://models"}, "uri", Refused.CEL),
    _model("uri-pvc-bad-claim", {"uri": "pvc://My_Claim/digits.pt"}, "uri", Refused.CEL),
    _model("uri-s3-without-key", {"uri": "s3://models"}, "uri", Refused.CEL),
    _model("uri-s3-whole-bucket", {"uri": "s3://models/"}, "uri", Refused.CEL),
    _model("uri-s3-signed", {"uri": "s3://models/2.pt?X-Amz-Signature=ab"}, "uri", Refused.CEL),
    _model("uri-gs-upwards", {"uri": "gs://models/../2.pt"}, "uri", Refused.CEL),
    _model("uri-az-without-container", {"uri": "az:///2.pt"}, "uri", Refused.CEL),
    _model("uri-hf-without-owner", {"uri": "hf://gpt2"}, "uri", Refused.CEL),
    _model("uri-hf-without-revision", {"uri": "hf://openai/gpt2@"}, "uri", Refused.CEL),
    _model("uri-oci-without-repository", {"uri": "oci://ghcr.io"}, "uri", Refused.CEL),
    _model("uri-oci-upper-case", {"uri": "oci://ghcr.io/Digits:2"}, "uri", Refused.CEL),
    _model("secret-of-bad-name", {"uri": "s3://m/2.pt", "secretName": "My_Secret"}, "secretName"),
    _model("secret-for-a-file", {"uri": "file:///m/2.pt", "secretName": "models"}, "secretName", Refused.CEL),
    _model("secret-for-a-claim", {"uri": "pvc://m/2.pt", "secretName": "models"}, "secretName", Refused.CEL),
    _spec(
        "secret-for-nothing-that-is-fetched",
        {
            "model": {"uri": "pvc://m/2.pt", "secretName": "models"},
            "runtime": {"drift": {"uri": "pvc://m/golden.npz"}},
        },
        "model.secretName",
        Refused.CEL,
    ),
    _model("uri-pvc-upwards", {"uri": "pvc://models/../other/digits.pt"}, "uri", Refused.CEL),
    # what it is
    _model("digest-too-short", {"digest": "sha256:abc"}, "digest"),
    _model("digest-empty", {"digest": ""}, "digest"),
    _model("digest-upper-case", {"digest": f"sha256:{'ABCDEF0123456789' * 4}"}, "digest"),
    _model("digest-md5", {"digest": f"md5:{'0' * 32}"}, "digest"),
    _model("version-is-number", {"version": 2}, "version"),
    _model("version-too-long", {"version": "v" * 64}, "version"),
    _model("format-unknown", {"format": "pickle"}, "format"),
    _model("factory-is-a-path", {"format": "auto", "factory": "models/resnet.py"}, "factory"),
    _model("factory-for-a-whole-model", {"factory": "package.models:resnet"}, "factory", Refused.CEL),
    _model("safetensors-without-factory", {"format": "safetensors"}, "factory", Refused.CEL),
    _model("state-dict-without-factory", {"format": "statedict"}, "factory", Refused.CEL),
    _model(
        "uri-of-a-file-for-a-folder", {"uri": "https://h/a.zip", "format": "transformers"}, "uri", Refused.CEL
    ),
    _model("uri-of-an-object-for-a-folder", {"uri": "s3://m/a", "format": "python"}, "uri", Refused.CEL),
    _model(
        "uri-of-a-file-of-the-hub-for-a-folder",
        {"uri": "hf://a/b@1/c", "format": "mlflow"},
        "uri",
        Refused.CEL,
    ),
    _model("texts-for-torch", {"inputs": [_TENSOR | {"datatype": "BYTES"}]}, "inputs", Refused.CEL),
    _model("texts-from-torch", {"outputs": [_TENSOR | {"datatype": "BYTES"}]}, "outputs", Refused.CEL),
    _model("inputs-not-a-list", {"inputs": _TENSOR}, "inputs"),
    _model("datatype-unknown", {"inputs": [_TENSOR | {"datatype": "float32"}]}, "inputs[0].datatype"),
    _model("tensor-without-name", {"inputs": [{"datatype": "FP32", "shape": [1]}]}, "inputs[0].name"),
    _model("shape-too-long", {"inputs": [_TENSOR | {"shape": [1] * 17}]}, "inputs[0].shape"),
    _model("shape-of-text", {"inputs": [_TENSOR | {"shape": ["batch", 64]}]}, "inputs[0].shape[0]"),
    _model("dimension-below-minus-one", {"inputs": [_TENSOR | {"shape": [-2]}]}, "inputs[0].shape[0]"),
    _model("dimension-huge", {"inputs": [_TENSOR | {"shape": [2**31]}]}, "inputs[0].shape[0]"),
    _model("dimension-zero", {"inputs": [_TENSOR | {"shape": [0, 64]}]}, "inputs[0].shape", Refused.CEL),
    _model("inputs-twice-the-same", {"inputs": [_TENSOR, _TENSOR]}, "inputs", Refused.CEL),
    _model("outputs-twice-the-same", {"outputs": [_TENSOR, _TENSOR]}, "outputs", Refused.CEL),
    _model("outputs-without-inputs", {"inputs": ABSENT}, "outputs", Refused.CEL),
    # what it runs in
    _runtime("image-with-space", {"image": "pilothouse/runtime: 1"}, "image"),
    _runtime("device-unknown", {"device": "tpu"}, "device"),
    _runtime("batch-of-nothing", {"batching": {"maxSize": 0}}, "batching.maxSize"),
    _runtime("batch-too-large", {"batching": {"maxSize": 4097}}, "batching.maxSize"),
    _runtime("batch-delay-in-microseconds", {"batching": {"maxDelay": "500us"}}, "batching.maxDelay"),
    _runtime("batch-delay-bare", {"batching": {"maxDelay": "0"}}, "batching.maxDelay"),
    _runtime("batch-delay-too-long", {"batching": {"maxDelay": "11s"}}, "batching.maxDelay", Refused.CEL),
    _runtime("batching-unknown", {"batching": {"size": 3}}, "batching", Refused.STRICT),
    _runtime("unknown-optimize", {"optimize": "fp4"}, "optimize"),
    _runtime("no-workers", {"workers": 0}, "workers"),
    _runtime("too-many-workers", {"workers": 65}, "workers"),
    _runtime("access-log-is-text", {"accessLog": "yes"}, "accessLog"),
    _runtime(
        "samples-of-nothing", {"sampling": {"rate": "0.0%", "claim": "a"}}, "sampling.rate", Refused.CEL
    ),
    _runtime("samples-of-more", {"sampling": {"rate": "100.1%", "claim": "a"}}, "sampling.rate", Refused.CEL),
    _runtime("samples-in-words", {"sampling": {"rate": "few", "claim": "a"}}, "sampling.rate"),
    _runtime("samples-to-nowhere", {"sampling": {"rate": "1%"}}, "sampling.claim", Refused.CEL),
    _runtime("samples-to-both", {"sampling": _SAMPLES | {"claim": "a"}}, "sampling.claim", Refused.CEL),
    _runtime("samples-to-the-web", {"sampling": _SAMPLES | {"uri": "https://h/a/"}}, "sampling.uri"),
    _runtime(
        "samples-to-an-object", {"sampling": _SAMPLES | {"uri": "s3://b/a"}}, "sampling.uri", Refused.CEL
    ),
    _runtime(
        "samples-to-a-query", {"sampling": _SAMPLES | {"uri": "s3://b/a?b/"}}, "sampling.uri", Refused.CEL
    ),
    _runtime(
        "samples-upwards", {"sampling": _SAMPLES | {"uri": "s3://b/../a/"}}, "sampling.uri", Refused.CEL
    ),
    _runtime(
        "samples-too-large",
        {"sampling": _SAMPLES | {"maxMegabytes": 65}},
        "sampling.maxMegabytes",
        Refused.CEL,
    ),
    _runtime(
        "samples-with-a-secret",
        {"sampling": {"rate": "1%", "claim": "a", "secretName": "s"}},
        "sampling.secretName",
        Refused.CEL,
    ),
    _spec(
        "samples-with-the-source's-secret",
        {
            "model": {"uri": "s3://models/digits.pt", "secretName": "models"},
            "runtime": {"sampling": _SAMPLES | {"secretName": "models"}},
        },
        "runtime",
        Refused.CEL,
    ),
    _runtime("samples-with-no-secret", {"sampling": _SAMPLES | {"secretName": "S 3"}}, "sampling.secretName"),
    _runtime(
        "samples-in-parts", {"sampling": {"rate": "1%", "claim": "a"}, "workers": 2}, "sampling", Refused.CEL
    ),
    _runtime("drift-from-nowhere", {"drift": {}}, "drift.uri"),
    _runtime("drift-from-elsewhere", {"drift": {"uri": "ftp://data/golden.npz"}}, "drift.uri"),
    _runtime("drift-on-no-path", {"drift": {"uri": "pvc://data"}}, "drift.uri", Refused.CEL),
    _runtime("drift-upwards", {"drift": {"uri": "s3://data/../golden.npz"}}, "drift.uri", Refused.CEL),
    _runtime("drift-without-host", {"drift": {"uri": "https:///golden.npz"}}, "drift.uri", Refused.CEL),
    _runtime("drift-on-a-folder", {"drift": {"uri": "s3://data/golden/"}}, "drift.uri", Refused.CEL),
    _runtime("drift-on-a-repository", {"drift": {"uri": "hf://data/golden@v1"}}, "drift.uri", Refused.CEL),
    _runtime("drift-digest", {"drift": {"uri": "file:///golden.npz", "digest": "md5:1"}}, "drift.digest"),
    _runtime("drift-in-parts", {"drift": {"uri": "file:///golden.npz"}, "workers": 2}, "drift", Refused.CEL),
    _runtime("explain-is-text", {"explain": "yes"}, "explain"),
    # what no runtime can do
    _of_format("explain-tensorflow", "tensorflow", {"explain": True}, "explain"),
    _of_format("explain-python", "python", {"explain": True}, "explain"),
    _of_format("workers-of-tensorflow", "tensorflow", {"workers": 2}, "workers"),
    _of_format("compile-onnx", "onnx", {"optimize": "compile"}, "optimize"),
    _of_format("compile-what-is-compiled", "aotinductor", {"optimize": "compile"}, "optimize"),
    _of_format("bf16-of-keras", "keras", {"optimize": "bf16"}, "optimize"),
    _of_format("int8-of-transformers", "transformers", {"optimize": "int8"}, "optimize"),
    _of_format("mmap-of-torchscript", "torchscript", {"optimize": "mmap"}, "optimize"),
    _of_format("workers-on-a-gpu", "exported", _ON_GPU | {"workers": 2}, "workers"),
    _of_format("int8-on-a-gpu", "exported", _ON_GPU | {"optimize": "int8"}, "optimize"),
    _runtime("cuda-without-gpu", {"device": "cuda"}, "device", Refused.CEL),
    _runtime("quantity-malformed", {"resources": {"limits": {"memory": "1 GB"}}}, "resources.limits.memory"),
    _runtime("quantity-negative", {"resources": {"limits": {"cpu": -1}}}, "resources.limits.cpu"),
    _runtime("quantity-fraction", {"resources": {"limits": {"cpu": 0.5}}}, "resources.limits.cpu"),
    _runtime(
        "request-above-limit",
        {"resources": {"requests": {"memory": "2Gi"}}},
        "resources.requests",
        Refused.OPERATOR,
    ),
    _runtime("env-not-a-list", {"env": {"A": "1"}}, "env"),
    _runtime("env-value-is-number", {"env": [{"name": "A", "value": 1}]}, "env[0].value"),
    _runtime("env-bad-name", {"env": [{"name": "1A", "value": "1"}]}, "env[0].name"),
    _runtime(
        "env-twice-the-same", {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "env"
    ),
    _runtime(
        "env-reserved", {"env": [{"name": "PILOTHOUSE_DEVICE", "value": "x"}]}, "env[0].name", Refused.CEL
    ),
    _runtime("env-without-value", {"env": [{"name": "A"}]}, "env[0].value", Refused.CEL),
    _runtime(
        "env-without-source", {"env": [{"name": "A", "valueFrom": {}}]}, "env[0].valueFrom", Refused.CEL
    ),
    _runtime("label-bad-value", {"podLabels": {"team": "vision team"}}, "podLabels.team"),
    _runtime("label-bad-key", {"podLabels": {"-team": "vision"}}, "podLabels", Refused.CEL),
    _runtime("label-reserved", {"podLabels": {"pilothouse.dev/model": "other"}}, "podLabels", Refused.CEL),
    _runtime(
        "annotation-reserved",
        {"podAnnotations": {"app.kubernetes.io/managed-by": "me"}},
        "podAnnotations",
        Refused.CEL,
    ),
    _runtime("affinity-unknown", {"affinity": {"nodeAffinityy": {}}}, "affinity", Refused.STRICT),
    _runtime(
        "toleration-without-key", {"tolerations": [{"value": "x"}]}, "tolerations[0].operator", Refused.CEL
    ),
    _runtime(
        "toleration-bad-effect", {"tolerations": [{"key": "a", "effect": "Never"}]}, "tolerations[0].effect"
    ),
    _runtime("grace-too-short", {"terminationGracePeriodSeconds": 1}, "terminationGracePeriodSeconds"),
    # how many and how
    _spec("replicas-negative", {"replicas": -1}, "replicas"),
    _spec("replicas-too-many", {"replicas": 1001}, "replicas"),
    _spec("replicas-is-text", {"replicas": "2"}, "replicas"),
    _spec("replicas-fraction", {"replicas": 1.5}, "replicas"),
    _spec("strategy-unknown", {"rollout": {"strategy": "Recreate"}}, "rollout.strategy"),
    _spec("deadline-without-unit", {"rollout": {"progressDeadline": "600"}}, "rollout.progressDeadline"),
    _spec("deadline-negative", {"rollout": {"progressDeadline": "-5m"}}, "rollout.progressDeadline"),
    _spec("deadline-zero", {"rollout": {"progressDeadline": "0s"}}, "rollout.progressDeadline", Refused.CEL),
    _spec(
        "deadline-too-long", {"rollout": {"progressDeadline": "48h"}}, "rollout.progressDeadline", Refused.CEL
    ),
    _spec("delay-is-number", {"rollout": {"scaleDownDelay": 30}}, "rollout.scaleDownDelay"),
    _spec("history-negative", {"rollout": {"revisionHistoryLimit": -1}}, "rollout.revisionHistoryLimit"),
    _spec("paused-is-text", {"paused": "yes"}, "paused"),
    # rollouts as a whole
    _rollout("canary-without-steps", {"strategy": "Canary"}, "steps", Refused.CEL),
    _rollout("steps-without-canary", {"steps": [{"weight": 20}]}, "steps", Refused.CEL),
    _rollout("steps-not-a-list", {"strategy": "Canary", "steps": {"weight": 20}}, "steps"),
    _rollout("steps-too-many", {"strategy": "Canary", "steps": [{"weight": 20}] * 33}, "steps"),
    _rollout("analysis-without-canary", {"analysis": {"maxErrorRate": "1%"}}, "analysis", Refused.CEL),
    _rollout("auto-promote-of-canary", CANARY | {"autoPromote": False}, "autoPromote", Refused.CEL),
    _rollout("surge-of-blue-green", BLUE_GREEN | {"surge": 1}, "surge", Refused.CEL),
    _rollout("surge-is-percentage", {"surge": "25%"}, "surge"),
    _rollout("surge-negative", {"surge": -1}, "surge"),
    _rollout("failure-unknown", {"onFailure": "Retry"}, "onFailure"),
    BadSpec("rollout-misspelt", {"spec": {"rollout": {"stratgy": "Canary"}}}, "spec.rollout", Refused.STRICT),
    # steps
    _step("step-empty", {}, "", Refused.CEL),
    _step("step-says-nothing", {"pause": False}, "", Refused.CEL),
    _step("step-pauses-for-a-time", {"pause": True, "for": "5m"}, "for", Refused.CEL),
    _step("step-too-long", {"weight": 50, "for": "25h"}, "for", Refused.CEL),
    _step("step-for-a-number", {"weight": 50, "for": 300}, "for"),
    _step("step-for-a-day", {"weight": 50, "for": "1d"}, "for"),
    _step("weight-above-all", {"weight": 101}, "weight"),
    _step("weight-negative", {"weight": -1}, "weight"),
    _step("weight-is-percentage", {"weight": "50%"}, "weight"),
    _step("weight-fraction", {"weight": 12.5}, "weight"),
    _step("step-misspelt", {"weight": 50, "wait": "5m"}, "", Refused.STRICT),
    # analysis
    _analysis("error-rate-without-sign", {"maxErrorRate": "0.01"}, "maxErrorRate"),
    _analysis("error-rate-is-number", {"maxErrorRate": 0.01}, "maxErrorRate"),
    _analysis("error-rate-above-all", {"maxErrorRate": "101%"}, "maxErrorRate", Refused.CEL),
    _analysis("latency-zero", {"maxLatencyP99": "0s"}, "maxLatencyP99", Refused.CEL),
    _analysis("increase-negative", {"maxLatencyP99Increase": "-5%"}, "maxLatencyP99Increase"),
    _analysis("interval-too-short", {"interval": "100ms"}, "interval", Refused.CEL),
    _analysis("requests-zero", {"minRequests": 0}, "minRequests"),
    _analysis("failures-zero", {"failureLimit": 0}, "failureLimit"),
    _analysis("inconclusive-unknown", {"onInconclusive": "Wait"}, "onInconclusive"),
    _analysis("analysis-misspelt", {"maxErrorrate": "1%"}, "", Refused.STRICT),
    _rollout(
        "analysis-of-nothing",
        CANARY | {"analysis": {"interval": "30s", "minRequests": 10}},
        "analysis",
        Refused.CEL,
    ),
    _query("query-without-bound", {"max": ABSENT}, "", Refused.CEL),
    _query("query-bounds-crossed", {"min": 0.3}, "min", Refused.CEL),
    _query("query-empty", {"query": ""}, "query"),
    _query("query-bad-name", {"name": "Drift rate"}, "name"),
    _query("query-bound-is-text", {"max": "0.2"}, "max"),
    _analysis(
        "queries-twice-the-same", {"prometheus": [{"name": "a", "query": "b", "max": 1}] * 2}, "prometheus"
    ),
    # validation
    _validation("golden-nowhere", {"uri": "golden.npz"}, "uri"),
    _validation("golden-on-a-relative-path", {"uri": "file://golden.npz"}, "uri", Refused.CEL),
    _validation("golden-with-password", {"uri": "https://me:x@host/golden.npz"}, "uri", Refused.CEL),
    _validation("golden-is-a-folder", {"uri": "gs://data/golden/"}, "uri", Refused.CEL),
    _validation("golden-bad-digest", {"digest": "sha256:0"}, "digest"),
    _validation("metric-unknown", {"metric": "f1"}, "metric"),
    _validation("against-unknown", {"against": "Previous"}, "against"),
    _validation("accuracy-in-percent", {"min": 95}, "min", Refused.CEL),
    _validation("accuracy-negative", {"min": -0.1}, "min", Refused.CEL),
    _validation("accuracy-above-all", {"max": 1.5}, "max", Refused.CEL),
    _validation("accuracy-bounds-crossed", {"max": 0.9}, "min", Refused.CEL),
    _validation("accuracy-as-text", {"min": "0.95"}, "min"),
    _validation("accuracy-without-min", {"min": ABSENT, "max": 0.5}, "min", Refused.CEL),
    _validation("error-without-max", {"metric": "meanSquaredError"}, "max", Refused.CEL),
    _validation("error-negative", {"metric": "maxDifference", "min": ABSENT, "max": -1}, "max", Refused.CEL),
    _validation("metric-missing", {"metric": ABSENT}, "metric"),
    _validation("timeout-too-long", {"timeout": "25h"}, "timeout", Refused.CEL),
    # autoscaling
    _autoscaling("scaling-without-most", {"maxReplicas": ABSENT}, "maxReplicas"),
    _autoscaling("scaling-to-zero", {"minReplicas": 0}, "minReplicas"),
    _autoscaling("scaling-bounds-crossed", {"minReplicas": 5}, "maxReplicas", Refused.CEL),
    _autoscaling("scaling-by-nothing", {"target": {}}, "target", Refused.CEL),
    _autoscaling("scaling-by-both", {"target": {"cpu": 70, "concurrency": 8}}, "target", Refused.CEL),
    _autoscaling("cpu-is-percentage", {"target": {"cpu": "70%"}}, "target.cpu"),
    _autoscaling("target-misspelt", {"target": {"cpu": 70, "memory": 70}}, "target", Refused.STRICT),
    BadSpec(
        "scaling-by-cpu-not-asked-for",
        {"spec": {"autoscaling": AUTOSCALING, "runtime": {"resources": {"requests": {"cpu": ABSENT}}}}},
        "spec.autoscaling",
        Refused.CEL,
    ),
)
