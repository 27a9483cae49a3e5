"""Bad YAML is refused at apply time or shown as InvalidSpec, naming the field; what serves goes on serving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.bad_specs import BAD_SPECS, BadSpec, Refused, good_model_deployment
from tests.support.kubectl import Json, Kubectl, RefusedError
from tests.support.load import measure
from tests.support.models import Models, Store
from tests.support.system import System
from tests.support.waiting import until


@dataclass(frozen=True)
class Good:
    """A good ModelDeployment that serves: as it was applied, and the pods that it had then."""

    body: Json
    pods: set[str]


@pytest.fixture(scope="module")
def good(kubectl: Kubectl, models: Models, store: Store) -> Iterator[Good]:
    """One that has something to break in every corner."""
    body = good_model_deployment(namespace=kubectl.namespace)
    model = {"uri": store.version("1"), "digest": models.digest["1"]}
    body["spec"]["model"] |= model
    body["spec"]["runtime"]["resources"] = {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "1Gi"},
    }
    kubectl.apply(body)
    kubectl.wait_ready("digits")
    yield Good(body, pods(kubectl))
    kubectl("delete", "mdep", "digits")


def pods(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kubectl.list("pods", "pilothouse.dev/model=digits")}


def refused(kubectl: Kubectl, body: Json) -> str:
    """Apply `body`; return what it was refused with, or an empty text where it was taken."""
    try:
        kubectl.apply(body)
    except RefusedError as error:
        return str(error)
    return ""


def invalid(kubectl: Kubectl) -> dict[str, Json]:
    """Return the conditions by type while the present generation is InvalidSpec, else nothing."""
    conditions = kubectl.conditions("digits")
    return conditions if conditions.get("Ready", {}).get("reason") == "InvalidSpec" else {}


@pytest.mark.usefixtures("digits_data")
@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.id)
def test_the_field_is_named_and_the_model_goes_on_serving(bad: BadSpec, good: Good, kubectl: Kubectl) -> None:
    refusal = refused(kubectl, bad.apply(good.body))
    if refusal:
        # The server names the field, or for a rule about several fields the object that holds them.
        *_, parent, leaf = (part.partition("[")[0] for part in f".{bad.field}".split("."))
        assert leaf in refusal or (parent and parent in refusal)
    else:
        assert bad.refused is not Refused.SCHEMA, "the schema should have refused it"
        told = until(lambda: invalid(kubectl), seconds=30, what=lambda: str(kubectl.status("digits")))
        assert bad.field in told["Ready"]["message"]
        assert (told["Stalled"]["status"], told["Stalled"]["reason"]) == ("True", "InvalidSpec")
        assert told["Available"]["status"] == "True"
        kubectl.apply(good.body)
        until(lambda: kubectl.ready("digits"), seconds=30)
    assert pods(kubectl) == good.pods


@pytest.mark.usefixtures("good", "digits_data")
def test_it_still_answers_after_all_of_that(system: System, kubectl: Kubectl) -> None:
    assert measure(kubectl, system.references["runtime"], "digits")["failed"] == 0
