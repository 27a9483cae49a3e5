"""The pod that serves one revision."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pilothouse.api import names
from pilothouse.api.model import Format, Model
from pilothouse.api.rollout import fraction
from pilothouse.api.runtime import Batching, Optimize, Runtime
from pilothouse.api.sampling import Sampling
from pilothouse.api.spec import ModelDeploymentSpec
from pilothouse.plan.claims import claim_of, with_claim
from pilothouse.plan.fetching import DRIFT_PLACE, NO_CACHE, Cache, Fetching
from pilothouse.plan.pods import as_json, restricted_container, restricted_pod, with_fetching
from pilothouse.plan.seen import Json
from pilothouse_runtime import contract

CONTAINER = "model"
_DRAIN_DELAY_SECONDS = 5
# Between the runtime's own end of draining and the kubelet's SIGKILL, so that the last answer is written.
_DRAIN_MARGIN_SECONDS = 2


@dataclass(frozen=True)
class Defaults:
    """What this release of the operator, its configuration and the cluster fill in where the spec is silent.

    Attributes:
        runtime_image: image of the runtime, and of validations.
        budget_api: API version in which the cluster serves PodDisruptionBudgets.
        autoscaler_api: API version in which it serves HorizontalPodAutoscalers with metrics.
        prometheus: whether the operator knows a Prometheus to ask.
        tensorflow_image: image of the runtime for models of the format tensorflow; `runtime_image` where empty.
        compile_image: that of the runtime for models that are compiled when a pod starts; `runtime_image` where empty.
        cache: where pods share what they fetch.
    """

    runtime_image: str
    budget_api: str = "policy/v1"
    autoscaler_api: str = "autoscaling/v2"
    prometheus: bool = False
    tensorflow_image: str = ""
    compile_image: str = ""
    cache: Cache = NO_CACHE


def pod_template(name: str, revision: str, spec: ModelDeploymentSpec, defaults: Defaults) -> Json:
    """Render the pod template of a revision.

    Args:
        name: the ModelDeployment's name, which is also the model's name in the inference protocol.
        revision: the revision's name.
        spec: only `spec.model` and `spec.runtime` are looked at.
        defaults: what to use where the spec names nothing.
    """
    runtime = spec.runtime
    claim = claim_of(spec.model.uri)
    image = runtime.image or _special_image(spec, defaults) or defaults.runtime_image
    fetching = Fetching(
        spec.model.uri, spec.model.digest, spec.model.secret_name, image, defaults.cache, field="model"
    )
    drift = _drift_data(spec, image, defaults.cache)
    container = _container(name, revision, spec, image, fetching.uri_within, drift)
    pod = with_fetching(restricted_pod(runtime, container, claim), fetching)
    if drift:
        pod = with_fetching(pod, drift)
    if runtime.sampling and runtime.sampling.claim:
        pod = with_claim(pod, runtime.sampling.claim, "samples", contract.SAMPLES_MOUNT, writable=True)
    if drift and (drift_claim := claim_of(drift.uri)):
        pod = with_claim(pod, drift_claim, "drift", contract.DRIFT_MOUNT, writable=False)
    metadata: Json = {
        "labels": {
            **runtime.pod_labels,
            **names.child_labels(name, revision),
            names.LABEL_SERVING: names.SERVING,
        }
    }
    if runtime.pod_annotations:
        metadata["annotations"] = dict(runtime.pod_annotations)
    return {"metadata": metadata, "spec": pod}


def _drift_data(spec: ModelDeploymentSpec, image: str, cache: Cache) -> Fetching | None:
    drift = spec.runtime.drift
    if drift is None:
        return None
    return Fetching(
        drift.uri,
        drift.digest,
        spec.model.secret_name,
        image,
        cache,
        field="runtime.drift",
        place=DRIFT_PLACE,
    )


def _special_image(spec: ModelDeploymentSpec, defaults: Defaults) -> str:
    """Return the image that holds what only some models need, or ""."""
    if spec.model.format is Format.TENSORFLOW:
        return defaults.tensorflow_image
    return defaults.compile_image if spec.runtime.optimize is Optimize.COMPILE else ""


def _container(
    name: str, revision: str, spec: ModelDeploymentSpec, image: str, uri: str, drift: Fetching | None
) -> Json:
    runtime = spec.runtime
    ports = ((contract.HTTP_PORT_NAME, contract.HTTP_PORT), (contract.GRPC_PORT_NAME, contract.GRPC_PORT))
    container = restricted_container(CONTAINER, image, claim_of(spec.model.uri)) | {
        "ports": [{"name": name_, "containerPort": port, "protocol": "TCP"} for name_, port in ports],
        "env": _environment(name, revision, spec, uri, drift),
        # The server answers from its first second, long before the model is loaded.
        "startupProbe": _probe(contract.LIVE_PATH, period=1, failures=120),
        "livenessProbe": _probe(contract.LIVE_PATH, period=10, failures=3, timeout=5),
        "readinessProbe": _probe(contract.READY_PATH, period=2, failures=3, timeout=5),
    }
    resources = as_json(runtime.resources)
    if resources:
        container["resources"] = resources
    if runtime.sampling and runtime.sampling.secret_name:
        # Not the Secret of the model's source: that is for the container that fetches, and for no other.
        container["envFrom"] = [{"secretRef": {"name": runtime.sampling.secret_name}}]
    return container


def _probe(path: str, *, period: int, failures: int, timeout: int = 1) -> Json:
    return {
        "httpGet": {"path": path, "port": contract.HTTP_PORT_NAME},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _environment(
    name: str, revision: str, spec: ModelDeploymentSpec, uri: str, drift: Fetching | None
) -> list[Json]:
    """Ours first: a user's variable may refer to them as $(NAME), and cannot replace them (the prefix is reserved)."""
    model, runtime = spec.model, spec.runtime
    values = {
        contract.ENV_MODEL_NAME: name,
        contract.ENV_REVISION: revision,
        contract.ENV_MODEL_URI: uri,
        contract.ENV_MODEL_VERSION: model.version,
        contract.ENV_MODEL_DIGEST: model.digest,
        contract.ENV_MODEL_FORMAT: model.format,
        contract.ENV_MODEL_FACTORY: model.factory,
        contract.ENV_MODEL_SIGNATURE: _signature(model),
        contract.ENV_DEVICE: runtime.device,
        contract.ENV_WORKERS: runtime.workers if runtime.workers > 1 else "",
        contract.ENV_OPTIMIZE: runtime.optimize if runtime.optimize is not Optimize.NONE else "",
        contract.ENV_ACCESS_LOG: "1" if runtime.access_log else "",
        contract.ENV_EXPLAIN: "1" if runtime.explain else "",
        contract.ENV_DRIFT_PROFILE: drift.uri_within if drift else "",
        contract.ENV_DRIFT_DIGEST: drift.digest if drift else "",
        **_sampling(runtime.sampling),
        **_batching(runtime.batching),
        **_drain(runtime),
    }
    ours = [{"name": key, "value": str(value)} for key, value in values.items() if value]
    return ours + [as_json(item) for item in runtime.env]


def _signature(model: Model) -> str:
    if not model.inputs and not model.outputs:
        return ""
    signature = {
        "inputs": [as_json(t) for t in model.inputs],
        "outputs": [as_json(t) for t in model.outputs],
    }
    return json.dumps(signature, separators=(",", ":"))


def _batching(batching: Batching) -> dict[str, str]:
    """What is left at its default is left to the runtime, which has the same."""
    given: dict[str, str] = {}
    default = Batching()
    if batching.max_size != default.max_size:
        given[contract.ENV_BATCH_MAX_SIZE] = str(batching.max_size)
    if batching.max_delay != default.max_delay:
        given[contract.ENV_BATCH_MAX_DELAY] = batching.max_delay.removesuffix("ms")
    return given


def _sampling(sampling: Sampling | None) -> dict[str, str]:
    if sampling is None:
        return {}
    return {
        contract.ENV_SAMPLING_RATE: f"{fraction(sampling.rate):.12g}",
        contract.ENV_SAMPLING_DIRECTORY: contract.SAMPLES_MOUNT if sampling.claim else "",
        contract.ENV_SAMPLING_URI: sampling.uri,
        contract.ENV_SAMPLING_PER_MINUTE: str(sampling.max_per_minute),
        contract.ENV_SAMPLING_MAX_BYTES: str(sampling.max_megabytes << 20),
    }


def _drain(runtime: Runtime) -> dict[str, str]:
    grace = runtime.termination_grace_period_seconds
    delay = min(_DRAIN_DELAY_SECONDS, grace // 2)
    return {
        contract.ENV_DRAIN_DELAY: str(delay),
        contract.ENV_DRAIN_TIMEOUT: str(max(grace - delay - _DRAIN_MARGIN_SECONDS, 1)),
    }
