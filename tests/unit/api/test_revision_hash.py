"""A revision's hash: pinned for ever, because a changed one would restart every model that runs."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pilothouse.api import names
from pilothouse.api.parse import parse
from pilothouse.api.revision import canonical, revision_hash
from pilothouse.api.rollout import Rollout
from pilothouse.api.spec import ModelDeploymentSpec
from tests.support.bad_specs import BLUE_GREEN, CANARY, NO_ROOM, good_model_deployment
from tests.support.spec_strategies import model_deployment

_URI = {"uri": "file:///models/digits.pt"}
_IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 64]}
_LOGITS = {"name": "logits", "datatype": "FP32", "shape": [-1, 10]}
_SAMPLES = {"rate": "1%", "uri": "s3://samples/a/", "secretName": "samples-writer"}

# Never edit a line of this table; add lines for new fields.
GOLDEN = (
    ("41fd13671d", {"model": _URI}),
    ("c39d582c1a", {"model": _URI | {"version": "2"}}),
    ("b7593ad8b7", {"model": _URI | {"digest": f"sha256:{'0123456789abcdef' * 4}"}}),
    ("71ff51aba2", {"model": _URI | {"format": "exported"}}),
    ("2e57c74704", {"model": _URI | {"inputs": [_IMAGE]}}),
    ("303a3625f6", {"model": _URI | {"inputs": [_IMAGE], "outputs": [_LOGITS]}}),
    ("10ce7f7667", {"model": _URI, "runtime": {"image": "registry.example.com/runtime:1"}}),
    ("139ce94100", {"model": _URI, "runtime": {"device": "cpu"}}),
    (
        "39eee57f34",
        {"model": _URI, "runtime": {"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}}},
    ),
    ("624bcea1fe", {"model": _URI, "runtime": {"env": [{"name": "A", "value": "1"}]}}),
    (
        "1c6da48b31",
        {
            "model": _URI,
            "runtime": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        },
    ),
    ("07a86299a5", {"model": _URI, "runtime": {"nodeSelector": {"disk": "ssd", "arch": "amd64"}}}),
    ("e805efd2fa", {"model": _URI, "runtime": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}),
    ("0331af26ba", {"model": _URI, "runtime": {"affinity": {"podAntiAffinity": {"x": [{"weight": 1}]}}}}),
    ("78d049ba4c", {"model": _URI, "runtime": {"serviceAccountName": "vision"}}),
    ("365334fb52", {"model": _URI, "runtime": {"imagePullSecrets": [{"name": "registry"}]}}),
    (
        "25fdfa9612",
        {"model": _URI, "runtime": {"podAnnotations": {"a": "ä"}, "podLabels": {"team": "vision"}}},
    ),
    ("43ec7c3104", {"model": _URI, "runtime": {"terminationGracePeriodSeconds": 60}}),
    ("79142bf405", {"model": _URI, "runtime": {"batching": {"maxSize": 64}}}),
    ("4e4aa6e81f", {"model": _URI, "runtime": {"batching": {"maxDelay": "5ms"}}}),
    ("759b0e4f24", {"model": _URI, "runtime": {"batching": {"maxSize": 1, "maxDelay": "0s"}}}),
    ("dd14c34741", {"model": _URI, "runtime": {"accessLog": True}}),
    ("481e1b810d", {"model": _URI, "runtime": {"explain": True}}),
    ("85203430e4", {"model": _URI, "runtime": {"drift": {"uri": "file:///golden.npz"}}}),
    ("030a6b424f", {"model": _URI, "runtime": {"sampling": {"rate": "1%", "claim": "samples"}}}),
    ("b1e4983cdf", {"model": _URI, "runtime": {"sampling": {"rate": "1%", "uri": "s3://samples/a/"}}}),
    ("3f8b217880", {"model": _URI, "runtime": {"sampling": _SAMPLES}}),
    ("db3660c8d1", {"model": _URI, "runtime": {"workers": 2}}),
    ("62d8ddf2c2", {"model": {"uri": "s3://models/digits/2.pt", "secretName": "models"}}),
    ("ac841e64fd", {"model": {**_URI, "inputs": [{"name": "x", "datatype": "BF16", "shape": [1]}]}}),
)


def hash_of(spec: dict[str, Any]) -> str:
    return revision_hash(parse(model_deployment(spec)))


@pytest.mark.parametrize(("pinned", "spec"), GOLDEN)
def test_hashes_never_change(pinned: str, spec: dict[str, Any]) -> None:
    assert hash_of(spec) == pinned


def test_hashes_differ() -> None:
    assert len({pinned for pinned, _ in GOLDEN}) == len(GOLDEN)


def test_defaults_written_out_make_no_other_revision() -> None:
    runtime = {
        "image": "",
        "device": "auto",
        "batching": {"maxSize": 32, "maxDelay": "2ms"},
        "workers": 1,
        "optimize": "none",
        "accessLog": False,
        "explain": False,
        "drift": None,
        "sampling": None,
        "resources": {"requests": {}, "limits": {}},
        "env": [],
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "serviceAccountName": "",
        "imagePullSecrets": [],
        "podAnnotations": {},
        "podLabels": {},
        "terminationGracePeriodSeconds": 30,
    }
    assert hash_of(
        {"model": _URI, "runtime": {"sampling": _SAMPLES | {"claim": "", "maxMegabytes": 64}}}
    ) == hash_of({"model": _URI, "runtime": {"sampling": _SAMPLES}})
    model = _URI | {"version": "", "format": "auto", "secretName": "", "inputs": [], "outputs": []}
    assert hash_of({"model": model, "runtime": runtime}) == hash_of({"model": _URI})


REST: Final[tuple[dict[str, Any], ...]] = (
    {"replicas": 7},
    {"paused": True},
    {"autoscaling": {"maxReplicas": 3, "target": {"concurrency": 8}}},
    {"rollout": {"progressDeadline": "1h", "scaleDownDelay": "5m", "revisionHistoryLimit": 0}},
    {"rollout": CANARY},
    {"rollout": BLUE_GREEN},
    {"rollout": NO_ROOM},
)


@pytest.mark.parametrize("rest", REST, ids=str)
def test_what_is_neither_model_nor_runtime_makes_no_revision(rest: dict[str, Any]) -> None:
    assert hash_of({"model": _URI, **rest}) == hash_of({"model": _URI})


def test_every_other_field_was_tried() -> None:
    assert {*ModelDeploymentSpec.model_fields} == {
        "model",
        "runtime",
        *(name for rest in REST for name in rest),
    }
    tried = {name for rest in REST for name in rest.get("rollout", ())}
    assert tried == {field.alias for field in Rollout.model_fields.values()}


def test_amounts_are_compared_and_not_their_spelling() -> None:
    def limits(**amounts: Any) -> str:
        return hash_of({"model": _URI, "runtime": {"resources": {"limits": amounts}}})

    assert limits(cpu=1) == limits(cpu="1") == limits(cpu="1000m") == limits(cpu="1.0") == limits(cpu="1e0")
    assert limits(memory="1Gi") == limits(memory="1024Mi") == limits(memory=1073741824)
    assert limits(memory="1Gi") != limits(memory="1G")
    assert limits(cpu="100m") != limits(cpu="101m")


def test_durations_are_compared_and_not_their_spelling() -> None:
    def delay(text: str) -> str:
        return hash_of({"model": _URI, "runtime": {"batching": {"maxDelay": text}}})

    assert delay("2ms") == delay("0.002s") == delay("0h2.0ms") == hash_of({"model": _URI})
    assert delay("1s") == delay("1000ms") == delay("0.5s500ms")
    assert delay("2ms") != delay("2.001ms")


def test_maps_have_no_order_and_lists_have_one() -> None:
    first, second = {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)"}

    def runtime(**fields: Any) -> str:
        return hash_of({"model": _URI, "runtime": fields})

    assert runtime(env=[first, second]) != runtime(env=[second, first])
    assert runtime(nodeSelector={"a": "1", "b": "2"}) == runtime(nodeSelector={"b": "2", "a": "1"})


def test_the_canonical_form_holds_only_what_was_said() -> None:
    assert canonical(
        parse(model_deployment({"model": _URI, "runtime": {"resources": {"limits": {"cpu": "2000m"}}}}))
    ) == {
        "model": _URI,
        "runtime": {"resources": {"limits": {"cpu": "2"}}},
    }


def test_the_longest_name_leaves_room_for_the_hash() -> None:
    name = "d" * names.NAME_MAX_LENGTH
    revision = names.revision_name(name, revision_hash(parse(good_model_deployment(name))))
    assert len(revision) == 63
    assert revision.startswith(name)
