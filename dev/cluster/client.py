"""Just enough of an API client to see that a cluster is ready, without starting kubectl for each question."""

import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

from dev.cluster.addresses import Addresses
from dev.cluster.components import API_PORT, CONTROLLER_PORTS
from dev.cluster.errors import ClusterError
from dev.cluster.layout import NODE_NAME, Layout


class Client:
    """Reads from the API server as the administrator, by whichever address the host can use."""

    def __init__(self, layout: Layout, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self._context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        self._context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")

    def get(self, path: str) -> tuple[int, bytes]:
        """The status code and body of a GET.

        Raises:
            OSError, http.client.HTTPException: no answer.
        """
        connection = http.client.HTTPSConnection(self._address, self._port, context=self._context, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def document(self, path: str) -> dict[str, Any]:
        """The JSON object at `path`, or an empty one when it is not there (yet)."""
        try:
            status, body = self.get(path)
        except (OSError, http.client.HTTPException):
            return {}
        return json.loads(body) if status == http.HTTPStatus.OK else {}

    def answers(self, path: str) -> bool:
        """Whether `path` is answered with 200."""
        try:
            return self.get(path)[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def api_ready(layout: Layout, addresses: Addresses) -> bool:
    """Whether the API server serves and has finished its start-up hooks (default roles, priorities, `kubernetes`)."""
    return _api(layout, addresses).answers("/readyz")


def controllers_ready(layout: Layout, addresses: Addresses) -> bool:
    """Whether the controllers and the scheduler run, and a pod could be made: there is a ServiceAccount's token."""
    for port in CONTROLLER_PORTS.values():
        if not Client(layout, str(addresses.node), port).answers("/healthz"):
            return False
    account = _api(layout, addresses).document("/api/v1/namespaces/default/serviceaccounts/default")
    return bool(account.get("secrets"))


def node_ready(layout: Layout, addresses: Addresses) -> bool:
    """Whether the node is Ready and nothing keeps pods away from it."""
    node = _api(layout, addresses).document(f"/api/v1/nodes/{NODE_NAME}")
    conditions = {entry["type"]: entry["status"] for entry in node.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def services_ready(layout: Layout, addresses: Addresses) -> bool:
    """Whether the host reaches a ClusterIP: that of the API server."""
    return Client(layout, str(addresses.kubernetes_service), 443).answers("/readyz")


def _api(layout: Layout, addresses: Addresses) -> Client:
    return Client(layout, str(addresses.node), API_PORT)


def wait(
    what: str, condition: Callable[[], bool], explain: Callable[[], str | None], seconds: float = 120
) -> None:
    """Wait until `condition` holds.

    Args:
        what: what is waited for, for the message.
        condition: asked every 50 ms.
        explain: why it cannot hold any more, or None while it still can.

    Raises:
        ClusterError: `explain` found a reason, or the time is up.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if reason := explain():
            raise ClusterError(f"{what}: {reason}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
