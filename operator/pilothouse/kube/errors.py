"""Turns what an API server answers, or that it does not, into the errors that the loop can handle.

Statuses are read as the API conventions define them (sig-architecture, api-conventions.md, "HTTP Status codes"
and "Response Status Kind").
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pilothouse.api.conditions import Reason
from pilothouse.control.errors import (
    BlockedError,
    ConflictError,
    GoneError,
    PilothouseError,
    TransientError,
)
from pilothouse.plan.seen import Json

# A message says what is wrong at its beginning and why at its end; between them it may show a whole object.
_MESSAGE_BEGINNING = 700
_MESSAGE_END = 300


def unanswered(request: str, error: BaseException) -> TransientError:
    """Return the error for a request (its method and path) that got no answer."""
    why = str(error) or type(error).__name__
    return TransientError(f"{request}: no answer from the API server: {why}")


def refused(request: str, status: int, body: bytes, headers: Mapping[str, str]) -> PilothouseError:
    """Return the error for a request (its method and path) that was answered with `status` of 400 or more."""
    answer = _status_object(body)
    said = _shortened(str(answer.get("message") or f"HTTP status {status}"))
    message = f"{request}: {said}"
    if status in (404, 410):
        return GoneError(message)
    if status == 409:
        return ConflictError(message)
    if status == 403:
        return _forbidden(message, said, answer)
    if status in (400, 422) and "admission webhook" in said:
        return BlockedError(Reason.FORBIDDEN, f"{message}; change the spec or the policy behind the webhook")
    if status in (400, 413, 422):
        return BlockedError(Reason.INVALID_SPEC, f"the API server finds the object wrong: {message}")
    if status == 401:
        return TransientError(f"{request}: the API server does not accept the operator's credentials")
    wait = headers.get("Retry-After")
    return TransientError(f"{message} (it asks to wait {wait} s)" if wait else message)


def _shortened(message: str) -> str:
    if len(message) <= _MESSAGE_BEGINNING + _MESSAGE_END:
        return message
    return f"{message[:_MESSAGE_BEGINNING]} [...] {message[-_MESSAGE_END:]}"


def _forbidden(message: str, said: str, answer: Json) -> PilothouseError:
    causes = (answer.get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes) or "being terminated" in said:
        return GoneError(message)
    if "exceeded quota" in said or "failed quota" in said:
        advice = "raise the ResourceQuota or ask for less"
        return BlockedError(Reason.QUOTA_EXCEEDED, f"{message}; {advice}")
    if "cannot " in said and "resource " in said:
        advice = "grant the operator this right (the chart's RBAC does), or leave the namespace out"
        return BlockedError(Reason.FORBIDDEN, f"{message}; {advice}")
    return BlockedError(Reason.FORBIDDEN, f"{message}; change the spec or the policy that forbids it")


def _status_object(body: bytes) -> Json:
    """Return the metav1.Status in an answer, or an empty one where something else (a proxy) answered."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}
