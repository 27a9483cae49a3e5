"""Writes Kubernetes Events about a ModelDeployment."""

from __future__ import annotations

import hashlib
import logging
import socket
from datetime import UTC, datetime
from typing import Final

from pilothouse.control.errors import ConflictError, PilothouseError
from pilothouse.kube import paths
from pilothouse.kube.client import Client
from pilothouse.plan.actions import Notice
from pilothouse.plan.seen import Json

COMPONENT: Final = "pilothouse"
# events.k8s.io/v1, Event.note; the older core/v1 Event shows the same object.
_MESSAGE_LIMIT = 1024
_NAME_LIMIT = 253

log = logging.getLogger(__name__)


class KubeRecorder:
    """Fulfils `pilothouse.control.ports.Recorder` with core/v1 Events, which every version of Kubernetes has."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def emit(self, body: Json, notice: Notice) -> None:
        """Record a notice about `body`. Never raises: an Event is a courtesy, and a failure is logged."""
        try:
            path = paths.collection("Event", body["metadata"]["namespace"])
            await self._client.request("POST", path, body=_event(body, notice))
        except ConflictError:
            pass  # told already, by a pass that was cut short before it could remember that
        except PilothouseError as error:
            log.warning("event %s was not recorded: %s", notice.reason, error)


def _event(body: Json, notice: Notice) -> Json:
    meta = body["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    involved = {"apiVersion": body["apiVersion"], "kind": body["kind"]}
    involved |= {field: meta[field] for field in ("namespace", "name", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": meta["namespace"], "name": _name(body, notice)},
        "involvedObject": involved,
        "type": notice.type,
        "reason": notice.reason,
        "message": notice.message[:_MESSAGE_LIMIT],
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": socket.gethostname(),
    }


def _name(body: Json, notice: Notice) -> str:
    """Return the same name for the same notice about the same state of an object, so that it is told once."""
    meta = body["metadata"]
    said = "\0".join((meta["uid"], meta["resourceVersion"], notice.type, notice.reason, notice.message))
    suffix = "." + hashlib.sha256(said.encode()).hexdigest()[:16]
    return str(meta["name"])[: _NAME_LIMIT - len(suffix)] + suffix
