"""What the operator says of a wrong spec: where, what rule, what to do, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.api.parse import parse
from pilothouse.api.problems import InvalidSpec
from pilothouse.api.uris import redacted
from tests.support.bad_specs import BAD_SPECS, good_model_deployment
from tests.support.spec_strategies import model_deployment

_URI = {"uri": "file:///models/digits.pt"}


def said(spec: Any, name: str = "digits") -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse(model_deployment(spec, name))
    return str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.model is required"),
        ({"model": {}}, "spec.model.uri is required"),
        (
            {"model": {"uri": "ftp://models/a.pt"}},
            "spec.model.uri must begin with one of az://, file://, gs://, hf://, http://, https://, oci://, pvc://, "
            "s3:// and hold no white space "
            '(it is "ftp://models/a.pt")',
        ),
        (
            {"model": _URI | {"digest": "sha256:abc"}},
            "spec.model.digest must be sha256: and 64 lower case hex digits, as sha256sum prints them "
            '(it is "sha256:abc")',
        ),
        ({"model": _URI | {"urii": "x"}}, 'spec.model has no field "urii"; did you mean "uri"?'),
        (
            {"model": _URI, "traffic": {}},
            'spec has no field "traffic"; known are: autoscaling, model, paused, replicas, rollout, runtime',
        ),
        (
            {"model": _URI, "runtime": {"resources": {"limit": {}}}},
            'spec.runtime.resources has no field "limit"; did you mean "limits"?',
        ),
        (
            {"model": _URI, "runtime": {"env": [{"name": "A", "valu": "x"}]}},
            'spec.runtime.env[0] has no field "valu"; did you mean "value"?',
        ),
        (
            {"model": _URI, "runtime": {"device": "gpu"}},
            "spec.runtime.device must be 'auto', 'cpu' or 'cuda' (it is \"gpu\")",
        ),
        ({"model": _URI, "replicas": -1}, "spec.replicas must be at least 0 (it is -1)"),
        ({"model": _URI, "replicas": True}, "spec.replicas must be a whole number (it is true)"),
        ({"model": _URI, "replicas": 1.5}, "spec.replicas must be a whole number (it is 1.5)"),
        ({"model": [1]}, "spec.model must be a mapping"),
        (
            {"model": _URI, "rollout": {"progressDeadline": "ten minutes"}},
            'spec.rollout.progressDeadline must be a duration such as "500ms", "30s", "10m" or "1h30m" '
            '(it is "ten minutes")',
        ),
        (
            {"model": _URI, "runtime": {"resources": {"limits": {"cpu": 0.5}}}},
            'spec.runtime.resources.limits.cpu must be a whole number or text, such as "500m"; put quotes around it '
            "(it is 0.5)",
        ),
        (
            {"model": _URI, "runtime": {"image": "a" * 513}},
            "spec.runtime.image must be at most 512 characters long",
        ),
        (
            {"model": _URI | {"inputs": [{"name": "", "datatype": "FP32", "shape": []}]}},
            'spec.model.inputs[0].name must not be empty (it is "")',
        ),
        (
            {"model": _URI | {"inputs": [{"name": "a", "datatype": "FP32", "shape": [1] * 17}]}},
            "spec.model.inputs[0].shape must have at most 16 items",
        ),
        ({"model": _URI, "paused": 1}, "spec.paused must be true or false (it is 1)"),
        ({"model": _URI, "autoscaling": {}}, "spec.autoscaling.maxReplicas is required"),
        (
            {
                "model": _URI,
                "autoscaling": {"minReplicas": 3, "maxReplicas": 2, "target": {"concurrency": 8}},
            },
            "spec.autoscaling.maxReplicas must not be below minReplicas",
        ),
        (
            {"model": _URI, "autoscaling": {"maxReplicas": 2, "target": {"cpu": 70}}},
            "spec.autoscaling aims at a share of the CPU asked for, but none is; "
            "add one to runtime.resources.requests",
        ),
        (
            {"model": _URI | {"format": "tensorflow"}, "runtime": {"explain": True}},
            "spec.runtime.explain must be left out where model.format is tensorflow: Captum explains, which needs "
            "PyTorch, and TensorFlow's image holds none",
        ),
        (
            {"model": _URI | {"format": "onnx"}, "runtime": {"optimize": "bf16"}},
            "spec.runtime.optimize is bf16, which can be done only where model.format is auto, mlflow, exported or "
            "torchscript; set it to none",
        ),
        (
            {"model": {"uri": "s3://models/bert", "format": "transformers"}},
            "spec.model.uri names a file, but a model whose format is tensorflow, transformers, mlflow or python is a "
            "folder: with s3://, gs://, az:// and hf:// end it with /; http(s):// brings files only",
        ),
    ],
)
def test_messages(spec: Any, message: str) -> None:
    assert said(spec).startswith(message)


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        (
            {"strategy": "canary"},
            ".strategy must be 'RollingUpdate', 'Canary' or 'BlueGreen' (it is \"canary\")",
        ),
        (
            {"strategy": "Canary"},
            ".steps are needed by strategy Canary and by no other; add some, as in {weight: 20, for: 5m}, "
            "or take them away",
        ),
        ({"steps": "20"}, '.steps must be a list (it is "20")'),
        ({"steps": [{"weight": 20}, {"weight": 120}]}, ".steps[1].weight must be at most 100 (it is 120)"),
        (
            {"steps": [{"weight": 20}, {"weight": "50%"}]},
            '.steps[1].weight must be a whole number (it is "50%")',
        ),
        ({"steps": [{"weight": 20}, {"weight": 0.5}]}, ".steps[1].weight must be a whole number (it is 0.5)"),
        (
            {"steps": [{"weight": 20, "for": "5 min"}]},
            '.steps[0].for must be a duration such as "500ms", "30s", "10m" or "1h30m" (it is "5 min")',
        ),
        ({"steps": [{"wieght": 20}]}, '.steps[0] has no field "wieght"; did you mean "weight"?'),
        ({"steps": [{"duration": "5m"}]}, '.steps[0] has no field "duration"; known are: for, pause, weight'),
        (
            {"strategy": "Canary", "steps": [{"weight": 20}, {}]},
            ".steps[1] must say something: a weight, how long (for), or pause: true",
        ),
        ({"analysis": {"maxErrorRate": 1}}, ".analysis.maxErrorRate must be text (it is 1)"),
        (
            {"analysis": {"maxErrorRate": "1 %"}},
            '.analysis.maxErrorRate must be a percentage such as "1%" or "0.5%" (it is "1 %")',
        ),
        (
            {"analysis": {"maxErrorsRate": "1%"}},
            '.analysis has no field "maxErrorsRate"; did you mean "maxErrorRate"?',
        ),
        (
            {"analysis": {"prometheus": [{"name": "a", "query": "b", "treshold": 1}]}},
            '.analysis.prometheus[0] has no field "treshold"; known are: max, min, name, query',
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "f1"}},
            ".validation.metric must be 'accuracy', 'meanSquaredError' or 'maxDifference' (it is \"f1\")",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "accuracy", "min": "95%"}},
            '.validation.min must be a number (it is "95%")',
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "accuracy", "min": True}},
            ".validation.min must be a number (it is true)",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "accuracy", "min": float("nan")}},
            ".validation.min must be a finite number (it is nan)",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "accuracy", "max": float("inf"), "min": 0.9}},
            ".validation.max must be a finite number (it is inf)",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "accuracy", "min": 95}},
            ".validation.min is no value that the metric can have: accuracy is a share, from 0 to 1, "
            "and no error is below 0",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "accuracy", "max": 0.9}},
            ".validation.min is needed by metric accuracy, of which more is better, as in min: 0.95",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "maxDifference", "min": 0.1}},
            ".validation.max is needed by metrics meanSquaredError and maxDifference, of which less is better",
        ),
        (
            {"validation": {"uri": "file:///g.npz", "metric": "maxDifference", "min": 0.1, "max": 0.01}},
            ".validation.min must not be above max: no value is good then",
        ),
    ],
)
def test_messages_about_rollouts(rollout: Any, message: str) -> None:
    assert said({"model": _URI, "rollout": rollout}).startswith(f"spec.rollout{message}")


def test_classes_may_be_compared_with_those_of_the_stable_revision() -> None:
    validation = {"uri": "file:///g.npz", "metric": "accuracy", "against": "Stable", "min": 1}
    spec = parse(model_deployment({"model": _URI, "rollout": {"validation": validation}}))
    assert spec.rollout.validation is not None
    assert spec.rollout.validation.min == 1.0


def test_all_that_is_wrong_is_told_at_once_up_to_a_point() -> None:
    assert said({"model": {"uri": ""}, "replicas": -1}, name="Digits").count("; spec.") == 2
    many = {"model": _URI, "runtime": {"env": [{"name": f"A{i}", "value": i} for i in range(9)]}}
    assert said(many).endswith("; and 4 more")


def test_a_rule_over_several_fields_names_the_one_to_change() -> None:
    assert said({"model": _URI, "runtime": {"device": "cuda"}}) == (
        "spec.runtime.device is cuda, but no GPU is asked for; "
        'add one to resources.limits, as in "nvidia.com/gpu: 1"'
    )


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": "https://me:s3cret@models.example.com/digits.pt"}},
        {"model": {"uri": "https://models.example.com/di gits.pt?sig=s3cret"}},
        {"model": {"uri": f"https://models.example.com/?sig=s3cret{'x' * 5000}"}},
        {"model": _URI, "runtime": {"env": [{"name": "TOKEN", "value": ["s3cret"]}]}},
        {"model": _URI, "runtime": {"env": [{"name": "PILOTHOUSE_TOKEN", "value": "s3cret"}]}},
        {"model": _URI, "runtime": {"env": "s3cret"}},
        {"model": _URI, "runtime": {"podAnnotations": {"a": "s3cret" * 1000}}},
        {
            "model": _URI,
            "rollout": {"validation": {"uri": "https://h/a b?sig=s3cret", "metric": "accuracy", "min": 1}},
        },
    ],
)
def test_no_secret_is_repeated(spec: Any) -> None:
    assert "s3cret" not in said(spec)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://models.example.com/a.pt?X-Amz-Signature=abc#frag", "https://models.example.com/a.pt"),
        ("https://user:pass@models.example.com:8443/a@b.pt", "https://models.example.com:8443/a@b.pt"),
        ("pvc://claim/digits/2.pt", "pvc://claim/digits/2.pt"),
        ("file:///models/digits.pt", "file:///models/digits.pt"),
        ("nonsense?token=abc", "nonsense"),
    ],
)
def test_a_uri_is_shown_without_what_may_be_secret(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


def test_a_long_value_is_cut() -> None:
    assert len(said({"model": _URI | {"version": "v" * 5000}})) < 200


def test_null_is_the_same_as_left_out() -> None:
    nulls = {
        "model": {**_URI, "digest": None, "inputs": None},
        "runtime": None,
        "rollout": {"progressDeadline": None},
    }
    assert parse(model_deployment(nulls)) == parse(model_deployment({"model": _URI}))


@pytest.mark.parametrize("spec", [None, [], "text", 7])
def test_whatever_is_no_mapping_is_refused_as_well(spec: Any) -> None:
    assert said(spec).startswith("spec")


@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.id)
def test_no_message_speaks_the_language_of_the_library(bad: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(bad.apply(good_model_deployment()))
    assert not any(
        word in str(caught.value) for word in ("Input should", "Value error", "pydantic", "string_")
    )


def test_names_in_python_are_no_names_in_yaml() -> None:
    assert 'no field "progress_deadline"; did you mean "progressDeadline"?' in said(
        {"model": _URI, "rollout": {"progress_deadline": "1m"}}
    )
