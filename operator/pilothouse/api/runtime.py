"""`spec.runtime`: what the model runs in."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

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
from pilothouse.api.rollout import DIGEST_PATTERN
from pilothouse.api.rules import Rule, SpecModel, matches, unfilled
from pilothouse.api.sampling import Sampling
from pilothouse.api.uris import DATA_RULES, URI_PATTERN

IMAGE_PATTERN: Final = r"^[^ \t\r\n]*$"

_ACCELERATORS = "^(nvidia|amd)[.]com/"
_WHOLE_NUMBER = "^[1-9][0-9]*$"


class Device(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Optimize(StrEnum):
    """How a model is run otherwise than its file says."""

    NONE = "none"
    COMPILE = "compile"
    BF16 = "bf16"
    INT8 = "int8"
    MMAP = "mmap"


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
        pattern=URI_PATTERN,
        max_length=4096,
        description="Golden data set, an .npz file as for rollout.validation. Sources, and the Secret, are those of "
        "the model.",
    )
    digest: str | None = Field(
        default=None,
        pattern=DIGEST_PATTERN,
        max_length=71,
        description="sha256:<64 lower case hex digits> of that file.",
    )

    rules = DATA_RULES


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
        description="How the model is run on a CPU: none (as the file says); compile (to native code, when a pod "
        "starts); bf16, or int8 (linear layers only) for what large layers compute with; mmap (weights stay pages of "
        "the file, which pods of a node share). Answers are compared with the file's own before the model serves. "
        "Default: none.",
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
            "optimize",
            "must be none where device is cuda: it changes how a CPU runs the model",
            lambda self: self.optimize is Optimize.NONE or self.device is not Device.CUDA,
            "!has(self.optimize) || self.optimize == 'none' || !has(self.device) || self.device != 'cuda'",
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
