"""What the chart renders: objects that Kubernetes takes, with the rights that the operator needs and no others."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # has no types
import kubernetes_validate  # type: ignore[import-untyped] # has no types
import pytest
import yaml
from helm_python import Chart

from dev import helm
from pilothouse.api import crd
from pilothouse.app import LEASE_NAME
from pilothouse.config import Config
from pilothouse.plan.fetching import Cache

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/pilothouse"
SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())
SCHEMA_VERSIONS = ["1.25", kubernetes_validate.latest_version()]

# Every template's branches, both ways.
VALUES: dict[str, Json] = {
    "defaults": {},
    "namespaces": {
        "watchNamespaces": ["vision", "speech"],
        "replicas": 2,
        "logLevel": "debug",
        "runtime": {"tensorflowImage": {"repository": ""}, "compileImage": {"repository": ""}},
    },
    "everything": {
        "image": {
            "repository": "registry:5000/op",
            "tag": "1",
            "pullPolicy": "Always",
            "pullSecrets": [{"name": "r"}],
        },
        "runtime": {
            "image": {"repository": "registry:5000/rt", "tag": "2"},
            "tensorflowImage": {"repository": "registry:5000/tf", "tag": "3"},
            "compileImage": {"repository": "registry:5000/compile", "tag": "4"},
        },
        "serviceAccount": {"name": "robot", "annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "vision"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "prometheus": {"url": "http://prometheus.monitoring:9090/base"},
        "cache": {"hostPath": "/var/lib/models", "size": "20Gi"},
    },
    "bare": {"rbac": {"create": False}, "serviceAccount": {"create": False}, "crds": {"install": False}},
    "not aggregated": {"rbac": {"aggregate": False}},
}


def rendered(values: Json, **how: str) -> dict[tuple[str, str], Json]:
    """Return the rendered objects by kind and name."""
    objects = helm.template(CHART, values=values, **how)
    by_name = {
        (o["kind"], f"{o['metadata'].get('namespace', '')}/{o['metadata']['name']}"): o for o in objects
    }
    assert len(by_name) == len(objects)
    return by_name


def operator_pod(values: Json) -> tuple[Json, Json]:
    """Return the operator's pod template and its one container."""
    deployment = rendered(values)["Deployment", "default/pilothouse"]
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return template, container


def rights(objects: dict[tuple[str, str], Json]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (namespace or "", API group, resource, verb) for each right that the operator's ServiceAccount is given."""
    for (kind, name), binding in objects.items():
        if not kind.endswith("Binding"):
            continue
        assert [subject["name"] for subject in binding["subjects"]] == ["pilothouse"]
        namespace = name.partition("/")[0]
        role = objects[binding["roleRef"]["kind"], f"{namespace}/{binding['roleRef']['name']}"]
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield from ((namespace, group, resource, verb) for verb in rule["verbs"])


@pytest.mark.parametrize("kubernetes", ["v1.20.2", "v1.25.0", "v1.37.0"])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_lint_finds_nothing(values: Json, kubernetes: str) -> None:
    assert helm.lint(CHART, values=values, kubernetes=kubernetes) == []


@pytest.mark.parametrize("version", SCHEMA_VERSIONS)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_kubernetes_takes_every_object(values: Json, version: str) -> None:
    """The oldest and the newest schemas there are; Kubernetes 1.20 is asked itself, by the integration tests."""
    for manifest in rendered(values).values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_rendered_crd_is_the_one_of_the_models() -> None:
    name = crd.CRD_NAME
    found = rendered({})["CustomResourceDefinition", f"/{name}"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert found["spec"] == crd.crd()["spec"]


def test_before_kubernetes_1_25_the_crd_has_no_cel_rules() -> None:
    """Helm renders for one Kubernetes only without a cluster, so the condition is evaluated here."""
    text = (ROOT / crd.CHART_TEMPLATE).read_text()
    condition = r'\n *{{- if semverCompare ">=1.25-0" .Capabilities.KubeVersion.Version }}'
    without, conditions = re.subn(condition + r".*?\n *{{- end }}(?=\n)", "", text, flags=re.S)
    assert conditions == text.count("x-kubernetes-validations:") > 0
    body = "\n".join(line for line in without.splitlines() if "{{" not in line)
    assert yaml.safe_load(body)["spec"] == crd.legacy_crd()["spec"]


def test_the_chart_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
    _, container = operator_pod({})
    assert container["image"] == f"pilothouse/operator:{project['version']}"


def test_the_operator_understands_the_environment_that_it_is_given() -> None:
    def config(values: Json) -> Config:
        _, container = operator_pod(values)
        environment = {e["name"]: e.get("value", "pilothouse-system") for e in container["env"]}
        return Config.from_environment(environment)

    assert config({}).namespaces == ()
    assert config({}).runtime_image == "pilothouse/runtime:0.1.0"
    assert config({}).tensorflow_image == "pilothouse/runtime-tensorflow:0.1.0"
    assert config({}).compile_image == "pilothouse/runtime-compile:0.1.0"
    chosen = config(VALUES["namespaces"])
    assert (chosen.tensorflow_image, chosen.compile_image) == ("", "")
    assert chosen.namespaces == ("vision", "speech")
    assert chosen.log_level == "DEBUG"
    assert config(VALUES["everything"]).runtime_image == "registry:5000/rt:2"
    assert config(VALUES["everything"]).tensorflow_image == "registry:5000/tf:3"
    assert config(VALUES["everything"]).compile_image == "registry:5000/compile:4"
    assert config(VALUES["everything"]).prometheus_url == "http://prometheus.monitoring:9090/base"
    assert config({}).prometheus_url == ""
    assert config(VALUES["everything"]).cache == Cache("/var/lib/models", "", 20 * 2**30)
    assert config({"cache": {"claim": "models", "size": 0}}).cache == Cache("", "models", 0)
    assert not config({}).cache.is_there
    _, container = operator_pod({})
    lease = next(e for e in container["env"] if e["name"] == "PILOTHOUSE_LEASE_NAMESPACE")
    assert lease["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


def test_the_operator_s_pod_is_locked_down_and_watched() -> None:
    template, container = operator_pod(VALUES["everything"])
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert container["ports"][0]["containerPort"] == 8081
    assert pod["serviceAccountName"] == "robot"
    assert template["metadata"]["labels"]["team"] == "vision"


def test_the_service_finds_the_operator() -> None:
    objects = rendered({"podLabels": {"app.kubernetes.io/name": "hijacked"}})
    service = objects["Service", "default/pilothouse-metrics"]
    deployment = objects["Deployment", "default/pilothouse"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


# What the operator does at the API server: watching (edge), reading, applying, labelling, deleting, events (kube).
NEEDED = {
    *(("pilothouse.dev", "modeldeployments", verb) for verb in ("get", "list", "watch")),
    ("pilothouse.dev", "modeldeployments/status", "patch"),
    *(("apps", "deployments", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(("apps", "controllerrevisions", verb) for verb in ("get", "list", "create", "patch", "delete")),
    *(("", "services", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(("batch", "jobs", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(("policy", "poddisruptionbudgets", v) for v in ("get", "list", "create", "patch", "delete")),
    *(("autoscaling", "horizontalpodautoscalers", v) for v in ("get", "list", "create", "patch", "delete")),
    *(("discovery.k8s.io", "endpointslices", verb) for verb in ("list", "watch")),
    ("", "pods", "list"),
    ("", "pods", "patch"),
    ("", "events", "create"),
}
LEASE = {("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "update")}


def test_cluster_wide_rights() -> None:
    granted = set(rights(rendered({})))
    assert granted == {("", *right) for right in NEEDED} | {("default", *right) for right in LEASE}


def test_rights_in_a_list_of_namespaces_and_nowhere_else() -> None:
    granted = set(rights(rendered(VALUES["namespaces"], namespace="system")))
    wanted = {(namespace, *right) for namespace in ("vision", "speech") for right in NEEDED}
    assert granted == wanted | {("system", *right) for right in LEASE}


def test_only_our_own_lease_may_be_changed() -> None:
    role = rendered({})["Role", "default/pilothouse-lease"]
    named = [
        rule for rule in role["rules"] if rule["verbs"] != ["create"]
    ]  # a create has no name to be checked by
    assert [rule["resourceNames"] for rule in named] == [[LEASE_NAME]]


def test_roles_of_users_include_model_deployments() -> None:
    objects = rendered({})
    view, edit = (objects["ClusterRole", f"/pilothouse-{name}"] for name in ("view", "edit"))
    aggregate = "rbac.authorization.k8s.io/aggregate-to-"
    assert {label for label in view["metadata"]["labels"] if label.startswith(aggregate)} == {
        f"{aggregate}{role}" for role in ("view", "edit", "admin")
    }
    assert {label for label in edit["metadata"]["labels"] if label.startswith(aggregate)} == {
        f"{aggregate}{role}" for role in ("edit", "admin")
    }
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    # The status is the operator's.
    assert not any("modeldeployments/status" in rule["resources"] for rule in edit["rules"])


def test_a_release_of_another_name_has_names_of_its_own() -> None:
    first = set(rendered({}, release="pilothouse"))
    second = set(rendered({}, release="other"))
    assert {kind for kind, _ in first & second} == {"CustomResourceDefinition"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": "2"}, "/replicas"),
        ({"replicas": -1}, "/replicas"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"image": {"repository": "a b"}}, "/image/repository"),
        ({"image": {"tag": 1.0}}, "/image/tag"),
        ({"runtime": {"image": "pilothouse/runtime:1"}}, "/runtime/image"),
        ({"watchNamespaces": "vision"}, "/watchNamespaces"),
        ({"watchNamespaces": ["Vision"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"logLevel": "loud"}, "/logLevel"),
        ({"prometheus": {"url": "prometheus:9090"}}, "/prometheus/url"),
        ({"cache": {"hostPath": "models"}}, "/cache/hostPath"),
        ({"cache": {"size": "much"}}, "/cache/size"),
        ({"prometheus": {"url": "http://robot:s3cret@prometheus"}}, "/prometheus/url"),
        ({"crds": {"instal": True}}, "instal"),
        ({"rbac": {"create": "yes"}}, "/rbac/create"),
        ({"serviceAccount": {"annotations": {"a": 1}}}, "/serviceAccount/annotations/a"),
        ({"podLabels": {"a": True}}, "/podLabels/a"),
    ],
)
def test_bad_values_are_refused_and_named(values: Json, named: str) -> None:
    with pytest.raises(helm.HelmError, match=re.escape(named)):
        helm.template(CHART, values=values)


def test_there_is_one_cache() -> None:
    with pytest.raises(helm.HelmError, match="set at most one"):
        helm.template(CHART, values={"cache": {"hostPath": "/var/models", "claim": "models"}})


def test_every_value_has_a_schema_and_a_description() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)

    def compare(values: Json, schema: Json, path: str) -> None:
        known = {name for name in schema["properties"] if name != "global"}
        assert set(values) == known, path
        assert schema["additionalProperties"] is False, path
        for name in known:
            child = schema["properties"][name]
            assert "description" in child or "$ref" in child, f"{path}.{name}"
            if "properties" in child:
                compare(values[name], child, f"{path}.{name}")

    compare(yaml.safe_load((CHART / "values.yaml").read_text()), SCHEMA, "")


def test_the_notes_say_what_to_type_next() -> None:
    with Chart.load(CHART) as chart:
        notes = chart.render({"watchNamespaces": ["vision"], "crds": {"install": False}}, namespace="system")
    text = notes["pilothouse/templates/NOTES.txt"]
    assert "namespace: vision" in text
    assert "kubectl get mdep -A" in text
    assert "kubectl apply --server-side -f crds/modeldeployments.yaml" in text
