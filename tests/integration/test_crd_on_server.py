"""The CRD at a real API server: what it refuses, fills in, explains and shows."""

from __future__ import annotations

import json

import pytest

from dev.cluster import Cluster
from pilothouse.api import crd
from pilothouse.control.errors import BlockedError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from tests.support import structural
from tests.support.bad_specs import BAD_SPECS, BadSpec, Refused, good_model_deployment
from tests.support.kubectl import Kubectl, RefusedError
from tests.support.waiting import eventually

SCHEMA = crd.legacy_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.fixture(scope="module")
def refused_by_server(cluster: Cluster) -> set[Refused]:
    """What the server at hand refuses: it knows CEL rules from Kubernetes 1.25 on."""
    minor = json.loads(Kubectl(cluster.kubeconfig)("get", "--raw", "/version"))["minor"]
    return {Refused.SCHEMA} | ({Refused.CEL} if int(minor.rstrip("+")) >= 25 else set())


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    return Kubectl(cluster.kubeconfig, namespace)


@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.id)
async def test_the_server_refuses_what_the_table_says(
    bad: BadSpec, client: Client, refused_by_server: set[Refused]
) -> None:
    body = bad.apply(good_model_deployment())
    post = client.request("POST", paths.collection(body["kind"], "default"), [("dryRun", "All")], body)
    if bad.refused in refused_by_server:
        with pytest.raises(BlockedError) as caught:
            await post
        parent = bad.field.rpartition(".")[0]
        # A list's own checks (types of items, duplicates) leave out the index or name another item.
        assert any(name.partition("[")[0] in str(caught.value) for name in (bad.field, parent) if name)
    else:
        await post


async def explained(kubectl: Kubectl) -> None:
    """Wait until kubectl knows the schema: the server publishes that of a new CRD some seconds later."""

    def known() -> bool:
        try:
            return "FIELDS" in kubectl("explain", "modeldeployment.spec.model")
        except RefusedError:
            return False

    await eventually(known)


@pytest.mark.parametrize("bad", [b for b in BAD_SPECS if b.refused is Refused.STRICT], ids=lambda bad: bad.id)
async def test_kubectl_refuses_unknown_fields(bad: BadSpec, kubectl: Kubectl) -> None:
    await explained(kubectl)
    with pytest.raises(RefusedError, match="unknown field"):
        kubectl.apply(bad.apply(good_model_deployment(namespace=kubectl.namespace)))


async def test_the_server_fills_in_the_defaults_that_we_expect(client: Client, namespace: str) -> None:
    spec = {"model": {"uri": "file:///models/digits.pt"}}
    body = good_model_deployment(namespace=namespace) | {"spec": spec}
    made = await client.request("POST", paths.collection(body["kind"], namespace), body=body)
    assert made["spec"] == structural.defaulted(SCHEMA, body)["spec"]


async def test_scale_and_columns(client: Client, kubectl: Kubectl) -> None:
    body = good_model_deployment(namespace=kubectl.namespace)
    await client.request("POST", paths.collection(body["kind"], kubectl.namespace), body=body)
    kubectl("scale", "mdep/digits", "--replicas=3")
    assert kubectl("get", "mdep", "digits", "--output=jsonpath={.spec.replicas}") == "3"
    header, row = kubectl("get", "modeldeployments", "digits").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "VERSION", "TARGET", "WEIGHT", "REPLICAS", "AGE"]
    assert row.split()[:4] == ["digits", "Unknown", "Pending", "1"]  # no operator yet; TARGET is the spec's
    wide = kubectl("get", "mdep", "digits", "--output=wide").splitlines()[0]
    assert wide.split()[-2:] == ["URI", "MESSAGE"]
    assert "modeldeployment.pilothouse.dev/digits" in kubectl("get", "all", "--output=name")


async def test_kubectl_explains_every_field(kubectl: Kubectl) -> None:
    await explained(kubectl)
    model = " ".join(kubectl("explain", "mdep.spec.model").split())
    assert "Where the model is" in model
    assert "uri <string> -required-" in model
    step = " ".join(kubectl("explain", "mdep.spec.rollout.steps").split())
    assert "for <string>" in step
    assert "pause <boolean>" in step
    assert "min <number>" in " ".join(kubectl("explain", "mdep.spec.rollout.validation").split())
    assert "Available: enough pods serve" in " ".join(kubectl("explain", "mdep.status.conditions").split())


async def test_an_object_that_nobody_has_seen_yet_is_not_taken_for_done(kubectl: Kubectl) -> None:
    """For kstatus (Helm 4, Flux) an object without a Ready condition is Current."""
    body = good_model_deployment(namespace=kubectl.namespace)
    kubectl.apply(body)
    status = kubectl.status(body["metadata"]["name"])
    assert status["observedGeneration"] == 0
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [("Ready", "Unknown")]
