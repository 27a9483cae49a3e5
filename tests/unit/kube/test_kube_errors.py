"""How answers of an API server are sorted."""

from __future__ import annotations

import json

import pytest

from pilothouse.control.errors import (
    BlockedError,
    ConflictError,
    GoneError,
    PilothouseError,
    TransientError,
)
from pilothouse.kube.errors import refused, unanswered

REQUEST = "PATCH /apis/apps/v1/namespaces/vision/deployments/digits"


def answered(code: int, message: str, *causes: str, **headers: str) -> PilothouseError:
    status = {"kind": "Status", "code": code, "message": message}
    details = {"causes": [{"reason": cause} for cause in causes]} if causes else {}
    return refused(REQUEST, code, json.dumps({**status, "details": details}).encode(), headers)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (404, 'deployments.apps "digits" not found', GoneError),
        (410, "too old resource version", GoneError),
        (409, "the object has been modified", ConflictError),
        (401, "Unauthorized", TransientError),
        (429, "too many requests", TransientError),
        (500, "etcdserver: request timed out", TransientError),
        (503, "apiserver not ready", TransientError),
        (504, "context deadline exceeded", TransientError),
    ],
)
def test_statuses_are_sorted_by_what_to_do(code: int, message: str, expected: type[PilothouseError]) -> None:
    assert type(answered(code, message)) is expected


@pytest.mark.parametrize(
    ("code", "message", "reason", "advice"),
    [
        (
            403,
            'deployments.apps "digits" is forbidden: exceeded quota: few, requested: count/deployments.apps=1, '
            "used: count/deployments.apps=2, limited: count/deployments.apps=2",
            "QuotaExceeded",
            "ResourceQuota",
        ),
        (
            403,
            'pods "x" is forbidden: failed quota: few: must specify limits.cpu',
            "QuotaExceeded",
            "ResourceQuota",
        ),
        (
            403,
            'services "digits" is forbidden: User "system:serviceaccount:ops:pilothouse" cannot patch resource '
            '"services" in API group "" in the namespace "vision"',
            "Forbidden",
            "grant the operator this right",
        ),
        (403, 'admission webhook "policy.example" denied the request: no', "Forbidden", "policy"),
        (400, 'admission webhook "policy.example" denied the request: no', "Forbidden", "policy"),
        (
            422,
            "Deployment.apps is invalid: spec.selector: field is immutable",
            "InvalidSpec",
            "spec.selector",
        ),
        (400, "json: cannot unmarshal string into Go struct field", "InvalidSpec", "unmarshal"),
        (413, "Request entity too large: limit is 3145728", "InvalidSpec", "too large"),
    ],
)
def test_what_a_person_must_change_is_named(code: int, message: str, reason: str, advice: str) -> None:
    error = answered(code, message)
    assert isinstance(error, BlockedError)
    assert error.reason == reason
    assert advice in str(error)
    assert message in str(error)
    assert REQUEST in str(error)


def test_a_namespace_that_is_being_deleted_is_gone() -> None:
    message = "unable to create new content in namespace vision because it is being terminated"
    assert isinstance(answered(403, message, "NamespaceTerminating"), GoneError)
    assert isinstance(answered(403, message), GoneError)


def test_what_is_no_status_object_is_not_shown() -> None:
    error = refused(REQUEST, 502, b"<html>proxy error: token=s3cret</html>", {})
    assert isinstance(error, TransientError)
    assert str(error) == f"{REQUEST}: HTTP status 502"


def test_of_a_long_message_the_beginning_and_the_end_are_kept() -> None:
    error = answered(
        422, "Job is invalid: spec.template: " + "core.PodTemplateSpec " * 200 + "field is immutable"
    )
    assert "spec.template" in str(error)
    assert str(error).endswith("field is immutable")
    assert len(str(error)) < 1200


def test_a_server_that_asks_for_patience_is_quoted() -> None:
    assert "wait 7 s" in str(answered(429, "slow down", **{"Retry-After": "7"}))


def test_no_answer_names_the_request_and_the_cause() -> None:
    assert (
        str(unanswered(REQUEST, TimeoutError())) == f"{REQUEST}: no answer from the API server: TimeoutError"
    )
