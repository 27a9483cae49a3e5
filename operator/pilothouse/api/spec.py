"""The spec of a ModelDeployment, v1alpha1.

Defaults are part of the API and of every revision's hash (see `pilothouse.api.revision`): a field may be added
with a default, but a default is never changed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from pilothouse.api.autoscaling import Autoscaling
from pilothouse.api.durations import Duration, between, canonical
from pilothouse.api.pods import (
    SUBDOMAIN_PATTERN,
    Affinity,
    Annotations,
    EnvVar,
    Labels,
    LocalObjectReference,
    ResourceRequirements,
    Toleration,
    keys_rule,
)
from pilothouse.api.rollout import DIGEST_PATTERN, Rollout
from pilothouse.api.rules import Rule, SpecModel, matches, unfilled
from pilothouse.api.sampling import Sampling
from pilothouse.api.uris import URI_PATTERN, URI_RULES

FACTORY_PATTERN: Final = r"^$|^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"
IMAGE_PATTERN: Final = r"^[^ \t\r\n]*$"

_LOCAL = "^(file|pvc)://"
_ACCELERATORS = "^(nvidia|amd)[.]com/"
_WHOLE_NUMBER = "^[1-9][0-9]*$"
# The serving container has no credentials and no volume but the model's.
DRIFT_URI_PATTERN: Final = r"^(file|https?)://[^ \t\r\n]+$"


class Format(StrEnum):
    """How a model is written."""

    AUTO = "auto"
    TORCHSCRIPT = "torchscript"
    EXPORTED = "exported"
    AOTINDUCTOR = "aotinductor"
    SAFETENSORS = "safetensors"
    STATEDICT = "statedict"
    ONNX = "onnx"
    KERAS = "keras"
    TENSORFLOW = "tensorflow"
    TRANSFORMERS = "transformers"
    MLFLOW = "mlflow"
    PYTHON = "python"


_WEIGHTS_ONLY: Final = (Format.AUTO, Format.SAFETENSORS, Format.STATEDICT, Format.MLFLOW)


class Datatype(StrEnum):
    """Tensor datatypes of the Open Inference Protocol v2 that the runtime serves."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BF16 = "BF16"
    BYTES = "BYTES"


class Device(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Optimize(StrEnum):
    """What the large layers of a model compute with."""

    NONE = "none"
    BF16 = "bf16"
    INT8 = "int8"


def _unique_names(field: str) -> Rule:
    return Rule(
        field,
        "names a tensor twice; names must be unique",
        lambda self: len({t.name for t in getattr(self, field)}) == len(getattr(self, field)),
        f"!has(self.{field}) || self.{field}.all(a, self.{field}.exists_one(b, b.name == a.name))",
    )


class Tensor(SpecModel):
    """One input or output of a model."""

    name: str = Field(min_length=1, max_length=63, description="Name of the tensor in requests and answers.")
    datatype: Datatype = Field(description="Datatype, as the Open Inference Protocol writes it.")
    shape: tuple[Annotated[int, Field(ge=-1, le=2**31 - 1)], ...] = Field(
        max_length=16,
        description="Size of each dimension; -1 for one that is free, as the batch is. Such as [-1, 64].",
    )

    rules = (
        Rule(
            "shape",
            "has a dimension of size 0; each is -1 (free) or at least 1",
            lambda self: 0 not in self.shape,
            "self.shape.all(d, d != 0)",
        ),
    )


class Model(SpecModel):
    """Which model is served."""

    uri: str = Field(
        pattern=URI_PATTERN,
        max_length=4096,
        description="Where the model is: file:///path in the runtime image, pvc://claim/path on a "
        "PersistentVolumeClaim of the same namespace, http(s)://host/path, s3://bucket/key, gs://bucket/key, "
        "az://container/blob, hf://owner/name[@revision][/path], or oci://registry/name:tag. "
        "A key or path that ends with / is a folder.",
    )
    version: str = Field(
        default="",
        max_length=63,
        description="What people call this version; kubectl and the server show it. It identifies nothing.",
    )
    digest: str | None = Field(
        default=None,
        pattern=DIGEST_PATTERN,
        max_length=71,
        description="sha256:<64 lower case hex digits> of the file or folder; checked before the model is loaded.",
    )
    secret_name: str = Field(
        default="",
        pattern=f"^$|{SUBDOMAIN_PATTERN}",
        max_length=253,
        description="Secret of the same namespace with credentials for the source. Its keys are environment variables "
        "of the container that fetches the model, and of no other. Default: none.",
        json_schema_extra=unfilled,
    )
    format: Format = Field(
        default=Format.AUTO,
        description="How the model is written: torchscript (.pt), exported (torch.export, .pt2), safetensors, onnx, "
        "keras, tensorflow (SavedModel), transformers or mlflow (folders), or auto: look inside. What holds code or "
        "pickles is loaded only if named: aotinductor (.pt2), statedict (torch.save), python (a folder with model.py).",
    )
    factory: str = Field(
        default="",
        pattern=FACTORY_PATTERN,
        max_length=253,
        description="module:function of a package in the image that makes the network, for a file that holds weights "
        "only (safetensors, statedict), such as my_package.models:resnet.",
        json_schema_extra=unfilled,
    )
    inputs: tuple[Tensor, ...] = Field(
        default=(),
        max_length=32,
        description="Inputs, in the model's order, for a file that does not describe them.",
    )
    outputs: tuple[Tensor, ...] = Field(
        default=(),
        max_length=32,
        description="Outputs, in the model's order, for a file that does not describe them.",
    )

    rules = (
        *URI_RULES,
        Rule(
            "secretName",
            "is for a model that is fetched; file:// and pvc:// need no credentials: take it away",
            lambda self: not self.secret_name or not matches(_LOCAL, self.uri),
            f"!has(self.secretName) || self.secretName == '' || !self.uri.matches('{_LOCAL}')",
        ),
        _unique_names("inputs"),
        _unique_names("outputs"),
        Rule(
            "outputs",
            "are described, but inputs are not; describe both or the inputs alone",
            lambda self: not self.outputs or bool(self.inputs),
            "!has(self.outputs) || size(self.outputs) == 0 || has(self.inputs) && size(self.inputs) > 0",
        ),
        Rule(
            "factory",
            "is missing; a state dict holds weights only: name what makes the network, as in my_package.models:resnet",
            lambda self: self.format is not Format.STATEDICT or bool(self.factory),
            "!has(self.format) || self.format != 'statedict' || has(self.factory) && self.factory != ''",
        ),
        Rule(
            "factory",
            "is for weights only; leave it out, or let format be safetensors, statedict, mlflow or auto",
            lambda self: not self.factory or self.format in _WEIGHTS_ONLY,
            "!has(self.factory) || self.factory == '' || !has(self.format) || "
            f"self.format in [{', '.join(repr(str(name)) for name in _WEIGHTS_ONLY)}]",
        ),
    )


class Batching(SpecModel):
    """How requests that come at about the same time are run as one."""

    max_size: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="The most rows that are run at once; 1 runs each request by itself. Default: 32.",
        json_schema_extra=unfilled,
    )
    # In one form, so that one duration makes one revision however it is written.
    max_delay: Annotated[Duration, AfterValidator(canonical)] = Field(
        default="2ms",
        description="How long a request waits for others while the model has nothing to do, such as 0.5ms; "
        "0s waits for nobody. Default: 2ms.",
        json_schema_extra=unfilled,
    )

    rules = (between("maxDelay", "max_delay", "0s", "10s"),)


class Drift(SpecModel):
    """What the inputs and outputs of requests are compared with."""

    uri: str = Field(
        pattern=DRIFT_URI_PATTERN,
        max_length=4096,
        description="Golden data set, an .npz file as for rollout.validation: file:///path in the runtime image or "
        "http(s)://host/path.",
    )
    digest: str | None = Field(
        default=None,
        pattern=DIGEST_PATTERN,
        max_length=71,
        description="sha256:<64 lower case hex digits> of that file.",
    )

    rules = URI_RULES


def _has_accelerator(runtime: Runtime) -> bool:
    limits = runtime.resources.limits.items()
    return any(matches(_ACCELERATORS, key) and matches(_WHOLE_NUMBER, value) for key, value in limits)


class Runtime(SpecModel):
    """What the model runs in."""

    image: str = Field(
        default="",
        pattern=IMAGE_PATTERN,
        max_length=512,
        description="Runtime image. Default: the one of the operator's release, at the time the revision is made.",
    )
    device: Device = Field(
        default=Device.AUTO,
        description="auto takes a GPU where the pod has one; cuda needs one among resources.limits.",
    )
    batching: Batching = Field(
        default_factory=Batching,
        description="How requests that come at about the same time are run as one.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes of a pod that run the model; they share its weights. Default: 1.",
        json_schema_extra=unfilled,
    )
    optimize: Optimize = Field(
        default=Optimize.NONE,
        description="What linear layers and convolutions compute with on a CPU: none (as the file says), bf16, or int8 "
        "(linear layers only). Answers are compared with the file's own before the model serves. Default: none.",
        json_schema_extra=unfilled,
    )
    access_log: bool = Field(
        default=False,
        description="Whether the pods log a line for each inference request. Default: false.",
        json_schema_extra=unfilled,
    )
    explain: bool = Field(
        default=False,
        description="Whether requests may ask which parts of an input made the answer (:explain). Default: false.",
        json_schema_extra=unfilled,
    )
    drift: Drift | None = Field(
        default=None,
        description="Compares the inputs and outputs of requests with a golden data set.",
    )
    sampling: Sampling | None = Field(
        default=None,
        description="Keeps some requests with their answers. They hold what users sent.",
    )
    resources: ResourceRequirements = Field(
        default_factory=ResourceRequirements, description="What each pod asks of its node."
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        description="Environment variables of the serving container.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    node_selector: Labels = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=32, description="Taints that the pods put up with."
    )
    affinity: Affinity = Field(
        default_factory=dict,
        description="Affinity of the pods to nodes and to other pods, as in a pod's spec.",
    )
    service_account_name: str = Field(
        default="",
        pattern=f"^$|{SUBDOMAIN_PATTERN}",
        max_length=253,
        description="ServiceAccount of the pods. Its token is not mounted. Default: the namespace's default.",
    )
    image_pull_secrets: tuple[LocalObjectReference, ...] = Field(
        default=(), max_length=16, description="Secrets of the same namespace with which to pull the image."
    )
    pod_annotations: Annotations = Field(default_factory=dict, description="Annotations to put on the pods.")
    pod_labels: Labels = Field(default_factory=dict, description="Labels to put on the pods.")
    termination_grace_period_seconds: int = Field(
        default=30,
        ge=10,
        le=86400,
        description="How long a pod that is told to stop may take to finish the requests it has.",
    )

    rules = (
        Rule(
            "device",
            'is cuda, but no GPU is asked for; add one to resources.limits, as in "nvidia.com/gpu: 1"',
            lambda self: self.device is not Device.CUDA or _has_accelerator(self),
            "!has(self.device) || self.device != 'cuda' || has(self.resources) && has(self.resources.limits) "
            "&& self.resources.limits.exists(k, "
            f"k.matches('{_ACCELERATORS}') && string(self.resources.limits[k]).matches('{_WHOLE_NUMBER}'))",
        ),
        Rule(
            "drift",
            "needs one process in each pod, as each would see a part of the requests; leave out workers",
            lambda self: self.drift is None or self.workers == 1,
            "!has(self.drift) || !has(self.workers) || self.workers == 1",
        ),
        Rule(
            "sampling",
            "needs one process in each pod; leave out workers",
            lambda self: self.sampling is None or self.workers == 1,
            "!has(self.sampling) || !has(self.workers) || self.workers == 1",
        ),
        Rule(
            "env",
            "names a variable twice; names must be unique",
            lambda self: len({e.name for e in self.env}) == len(self.env),
            # The API server sees to it, on every version: the list is a map by name.
            None,
        ),
        *keys_rule("nodeSelector", "node_selector", reserved=False),
        *keys_rule("podAnnotations", "pod_annotations", reserved=True),
        *keys_rule("podLabels", "pod_labels", reserved=True),
    )


class ModelDeploymentSpec(SpecModel):
    """What a user asks for. `model` and `runtime` make a revision; the rest never does."""

    model: Model = Field(description="Which model is served. A change makes a new revision.")
    runtime: Runtime = Field(
        default_factory=Runtime, description="What the model runs in. A change makes a new revision."
    )
    replicas: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="How many pods serve the model. With autoscaling, leave it out: the autoscaler sets it.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="Makes a HorizontalPodAutoscaler that sets replicas."
    )
    rollout: Rollout = Field(
        default_factory=Rollout, description="How a new revision takes over from the one that serves."
    )
    paused: bool = Field(
        default=False,
        description="Holds rollouts: none begins and none goes on. What serves is served and scaled as ever.",
    )

    rules = (
        Rule(
            "autoscaling",
            "aims at a share of the CPU asked for, but none is; add one to runtime.resources.requests",
            lambda self: (
                self.autoscaling is None
                or self.autoscaling.target.cpu is None
                or "cpu" in self.runtime.resources.requests
            ),
            "!has(self.autoscaling) || !has(self.autoscaling.target.cpu) || has(self.runtime) && "
            "has(self.runtime.resources) && has(self.runtime.resources.requests) && "
            "'cpu' in self.runtime.resources.requests",
        ),
        Rule(
            "runtime",
            "names the Secret of the model's source in sampling.secretName, but the container that serves must not "
            "have it; make one that may write samples, and do nothing else",
            lambda self: (
                self.runtime.sampling is None
                or not self.runtime.sampling.secret_name
                or self.runtime.sampling.secret_name != self.model.secret_name
            ),
            "!has(self.model.secretName) || self.model.secretName == '' || !has(self.runtime) || "
            "!has(self.runtime.sampling) || !has(self.runtime.sampling.secretName) || "
            "self.runtime.sampling.secretName != self.model.secretName",
        ),
    )
