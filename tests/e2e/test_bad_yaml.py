"""Bad YAML is refused at apply time or shown as InvalidSpec, naming the field; what serves goes on serving."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.bad_specs import BAD_SPECS, BadSpec, Refused, good_model_deployment
from tests.support.kubectl import Json, Kubectl, RefusedError
from tests.support.load import measure
from tests.support.models import Models, Store
from tests.support.system import System
from tests.support.waiting import until


@pytest.fixture(scope="module")
def good(kubectl: Kubectl, models: Models, store: Store) -> Iterator[Json]:
    """A good ModelDeployment that has something to break in every corner, and serves."""
    body = good_model_deployment(namespace=kubectl.namespace)
    model = {"uri": store.version("1"), "digest": models.digest["1"]}
    body["spec"]["model"] |= model
    body["spec"]["runtime"]["resources"] = {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "1Gi"},
    }
    kubectl.apply(body)
    kubectl.wait_ready("digits")
    yield body
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


def invalid(kubectl: Kubectl) -> str:
    """Return the message of Ready while the present generation is InvalidSpec, else an empty text."""
    ready = kubectl.conditions("digits").get("Ready", {})
    return str(ready["message"]) if ready.get("reason") == "InvalidSpec" else ""


@pytest.mark.usefixtures("digits_data")
@pytest.mark.parametrize("bad", BAD_SPECS, ids=lambda bad: bad.id)
def test_the_field_is_named_and_the_model_goes_on_serving(bad: BadSpec, good: Json, kubectl: Kubectl) -> None:
    before = pods(kubectl)
    refusal = refused(kubectl, bad.apply(good))
    if refusal:
        # The server names the field, or for a rule about several fields the object that holds them.
        *_, parent, leaf = (part.partition("[")[0] for part in f".{bad.field}".split("."))
        assert leaf in refusal or (parent and parent in refusal)
    else:
        assert bad.refused is not Refused.SCHEMA, "the schema should have refused it"
        message = until(lambda: invalid(kubectl), seconds=30, what=lambda: str(kubectl.status("digits")))
        assert bad.field in message
        assert kubectl.reason_stalled("digits") == "InvalidSpec"
        assert kubectl.conditions("digits")["Available"]["status"] == "True"
        kubectl.apply(good)
        until(lambda: kubectl.ready("digits"), seconds=30)
    assert pods(kubectl) == before


@pytest.mark.usefixtures("good", "digits_data")
def test_it_still_answers_after_all_of_that(system: System, kubectl: Kubectl) -> None:
    assert measure(kubectl, system.references["runtime"], "digits")["failed"] == 0
