"""Who brings a model, with what, and what the operator tells of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.api.conditions import Reason
from pilothouse.api.parse import parse
from pilothouse.plan.causes import diagnose
from pilothouse.plan.fetching import NO_CACHE, Cache
from pilothouse.plan.seen import Json
from pilothouse.plan.template import Defaults, pod_template
from pilothouse_runtime import contract
from pilothouse_runtime.contract import FailureReason, LastWords
from pilothouse_runtime.core.settings import read_settings
from pilothouse_runtime.fetch.settings import read_fetch_settings
from tests.support.spec_strategies import model_deployment

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
S3 = {"uri": "s3://models/digits/2.pt", "secretName": "models-readonly"}


def pod(model: Json, cache: Cache = NO_CACHE, **runtime: Any) -> Json:
    spec = parse(model_deployment({"model": model, "runtime": runtime}))
    rendered: Json = pod_template("digits", "digits-1", spec, Defaults("runtime:1", cache=cache))["spec"]
    return rendered


def variables(container: Json) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container["env"]}


def mounts(container: Json) -> dict[str, Json]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


@pytest.mark.parametrize(
    ("model", "fetched"),
    [
        ({"uri": "file:///m.pt"}, False),
        ({"uri": "pvc://claim/m.pt"}, False),
        ({"uri": "https://models.example.com/m.pt"}, False),
        ({"uri": "https://models.example.com/m.pt", "secretName": "s"}, True),
        ({"uri": "https://models.example.com/m.pt?X-Amz-Signature=planted"}, True),
        ({"uri": "s3://models/m.pt"}, True),
        ({"uri": "gs://models/m/"}, True),
        ({"uri": "az://models/m.pt"}, True),
        ({"uri": "hf://owner/name@main"}, True),
        ({"uri": "oci://registry:5000/name:1"}, True),
    ],
    ids=lambda value: value["uri"] if isinstance(value, dict) else "",
)
def test_who_brings_the_model(model: Json, fetched: bool) -> None:
    spec = pod(model)
    [container] = spec["containers"]
    uri = read_settings(variables(container)).uri
    assert ("initContainers" in spec) is fetched
    if fetched:
        [init] = spec["initContainers"]
        assert read_fetch_settings(variables(init)).uri == model["uri"]
        assert uri == contract.FETCHED_PREFIX + model["uri"].partition("?")[0]
        assert "planted" not in json.dumps(container)
    else:
        assert uri == model["uri"]


def test_only_the_one_that_fetches_has_the_credentials() -> None:
    spec = pod(S3 | {"digest": DIGEST})
    [init], [container] = spec["initContainers"], spec["containers"]
    assert init["envFrom"] == [{"secretRef": {"name": "models-readonly"}}]
    assert "models-readonly" not in json.dumps(container)
    assert mounts(init)[contract.MODEL_MOUNT] == {"name": "fetched", "mountPath": contract.MODEL_MOUNT}
    assert mounts(container)[contract.MODEL_MOUNT]["readOnly"]
    assert init["securityContext"] == container["securityContext"]
    settings = read_fetch_settings(variables(init))
    assert (settings.digest, settings.spec_field, settings.cache) == (DIGEST[7:], "model", None)
    assert read_settings(variables(container)).digest == DIGEST[7:]


def test_it_asks_for_no_more_than_the_one_that_serves() -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": 1}}
    [init] = pod(S3, resources=resources)["initContainers"]
    assert init["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}
    assert "resources" not in pod(S3)["initContainers"][0]


def test_a_folder_of_the_node_is_shared_within_a_namespace() -> None:
    spec = pod(S3 | {"digest": DIGEST}, Cache(host_path="/var/models", most_bytes=5))
    [init], [container] = spec["initContainers"], spec["containers"]
    assert {"name": "shared", "hostPath": {"path": "/var/models", "type": "Directory"}} in spec["volumes"]
    assert mounts(init)[contract.SHARED_MOUNT]["subPathExpr"] == "$(PILOTHOUSE_NAMESPACE)"
    assert contract.SHARED_MOUNT not in mounts(container)
    settings = read_fetch_settings(variables(init))
    assert (str(settings.cache), settings.cache_bytes) == (contract.SHARED_MOUNT, 5)


def test_a_claim_is_shared() -> None:
    model = {"uri": "https://models.example.com/m.pt", "digest": DIGEST}
    spec = pod(model, Cache(claim="models"))
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": "models"}} in spec["volumes"]
    assert spec["securityContext"]["fsGroup"] == 65532
    assert "subPathExpr" not in mounts(spec["initContainers"][0])[contract.SHARED_MOUNT]


@pytest.mark.parametrize(
    ("uri", "fetched"),
    [
        ("file:///golden.npz", False),
        ("https://data.example.com/golden.npz", False),
        ("https://data.example.com/golden.npz?X-Amz-Signature=planted", True),
        ("s3://data/golden.npz", True),
        ("oci://registry:5000/golden:1", True),
    ],
)
def test_who_brings_the_data_set_for_drift(uri: str, fetched: bool) -> None:
    spec = pod({"uri": "file:///m.pt"}, drift={"uri": uri, "digest": DIGEST})
    [container] = spec["containers"]
    settings = read_settings(variables(container))
    assert settings.drift_digest == DIGEST[7:]
    if not fetched:
        assert settings.drift_profile == uri
        assert "initContainers" not in spec
        return
    [init] = spec["initContainers"]
    brought = read_fetch_settings(variables(init))
    assert (brought.uri, brought.digest, brought.spec_field) == (uri, DIGEST[7:], "runtime.drift")
    assert settings.drift_profile == contract.FETCHED_PREFIX + uri.partition("?")[0]
    assert "planted" not in json.dumps(container)
    written, read = mounts(init)[contract.MODEL_MOUNT], mounts(container)[contract.DRIFT_MOUNT]
    assert written["name"] == read["name"]
    assert read["readOnly"]
    assert contract.MODEL_MOUNT not in mounts(container)


def test_a_model_on_a_claim_may_have_a_data_set_that_needs_a_secret() -> None:
    spec = pod({"uri": "pvc://models/m.pt", "secretName": "data"}, drift={"uri": "s3://data/golden.npz"})
    [init] = spec["initContainers"]
    assert init["envFrom"] == [{"secretRef": {"name": "data"}}]
    assert list(claims(spec).values()) == [{"claimName": "models", "readOnly": True}]


def test_model_and_data_set_are_brought_one_after_the_other() -> None:
    cache = Cache(host_path="/var/models", most_bytes=5)
    spec = pod(S3 | {"digest": DIGEST}, cache, drift={"uri": "s3://data/golden.npz", "digest": DIGEST})
    [model, drift], [container] = spec["initContainers"], spec["containers"]
    assert (model["name"], drift["name"]) == ("fetch", "fetch-drift")
    assert model["envFrom"] == drift["envFrom"] == [{"secretRef": {"name": "models-readonly"}}]
    assert "models-readonly" not in json.dumps(container)
    volumes = [volume["name"] for volume in spec["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert mounts(model)[contract.MODEL_MOUNT]["name"] != mounts(drift)[contract.MODEL_MOUNT]["name"]
    assert contract.SHARED_MOUNT in mounts(drift)
    assert [mounts(container)[p]["name"] for p in (contract.MODEL_MOUNT, contract.DRIFT_MOUNT)] == [
        mounts(init)[contract.MODEL_MOUNT]["name"] for init in (model, drift)
    ]


def claims(spec: Json) -> dict[str, Json]:
    """Return the claims of a pod by the name of their volume."""
    held = ((v["name"], v.get("persistentVolumeClaim")) for v in spec["volumes"])
    return {name: claim for name, claim in held if claim}


def test_the_data_set_for_drift_lies_on_a_claim_of_its_own() -> None:
    spec = pod({"uri": "file:///m.pt"}, drift={"uri": "pvc://data/golden.npz"})
    [container] = spec["containers"]
    assert read_settings(variables(container)).drift_profile == "pvc://data/golden.npz"
    mount = mounts(container)[contract.DRIFT_MOUNT]
    assert mount["readOnly"]
    assert claims(spec)[mount["name"]] == {"claimName": "data", "readOnly": True}


def test_a_claim_that_is_there_is_not_named_twice() -> None:
    drift = {"uri": "pvc://models/golden.npz"}
    spec = pod({"uri": "pvc://models/m.pt"}, drift=drift)
    [container] = spec["containers"]
    assert [claim["claimName"] for claim in claims(spec).values()] == ["models"]
    assert mounts(container)[contract.DRIFT_MOUNT]["name"] == mounts(container)[contract.PVC_MOUNT]["name"]
    sampled = pod({"uri": "file:///m.pt"}, drift=drift, sampling={"rate": "1%", "claim": "models"})
    assert claims(sampled) == {"samples": {"claimName": "models"}}
    [container] = sampled["containers"]
    assert mounts(container)[contract.DRIFT_MOUNT]["readOnly"]
    assert "readOnly" not in mounts(container)[contract.SAMPLES_MOUNT]


def test_without_a_digest_nothing_is_shared() -> None:
    assert "shared" not in json.dumps(pod(S3, Cache(host_path="/var/models")))
    assert "initContainers" not in pod({"uri": "https://m.example.com/m.pt"}, Cache(claim="models"))


def fetching(container: str = "fetch", **state: Any) -> Json:
    return {
        "metadata": {"name": "p", "uid": "1", "labels": {}},
        "status": {
            "phase": "Pending",
            "podIP": "10.0.0.1",
            "initContainerStatuses": [{"name": container, "image": "runtime:1", "restartCount": 0, **state}],
            "containerStatuses": [
                {"name": "model", "image": "runtime:1", "state": {"waiting": {"reason": "PodInitializing"}}}
            ],
        },
    }


@pytest.mark.parametrize(
    "reason", ["ModelDownloadFailed", "DigestMismatch", "NoSpace", "InvalidConfiguration"]
)
def test_last_words_of_the_one_that_fetches_are_told(reason: str) -> None:
    words = LastWords(FailureReason(reason), "what it said", permanent=True).encode()
    found = diagnose([fetching(state={"terminated": {"exitCode": 1, "message": words}})], None)
    assert found is not None
    assert (found.reason, found.message, found.final) == (Reason(reason), "what it said", True)


@pytest.mark.parametrize(
    ("container", "what"), [("fetch", "the model"), ("fetch-drift", "the data set of spec.runtime.drift")]
)
def test_a_secret_that_is_not_there_is_told(container: str, what: str) -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "models" not found'}
    found = diagnose([fetching(container, state={"waiting": waiting})], None)
    assert found is not None
    assert found.reason is Reason.MODEL_DOWNLOAD_FAILED
    assert f"the container that fetches {what} cannot be started: " in found.message
    assert 'secret "models" not found; check spec.model.secretName' in found.message


def test_one_that_has_done_its_work_is_no_cause() -> None:
    assert diagnose([fetching(state={"terminated": {"exitCode": 0}})], None) is None
