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


_TENSOR: Final = {"name": "image", "datatype": "FP32", "shape": [-1, 64]}

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
    BadSpec("unknown-field-of-spec", {"spec": {"autoscaling": {"maxReplicas": 3}}}, "spec", Refused.STRICT),
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
    _model("uri-pvc-upwards", {"uri": "pvc://models/../other/digits.pt"}, "uri", Refused.CEL),
    # what it is
    _model("digest-too-short", {"digest": "sha256:abc"}, "digest"),
    _model("digest-empty", {"digest": ""}, "digest"),
    _model("digest-upper-case", {"digest": f"sha256:{'ABCDEF0123456789' * 4}"}, "digest"),
    _model("digest-md5", {"digest": f"md5:{'0' * 32}"}, "digest"),
    _model("version-is-number", {"version": 2}, "version"),
    _model("version-too-long", {"version": "v" * 64}, "version"),
    _model("format-unknown", {"format": "onnx"}, "format"),
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
)
