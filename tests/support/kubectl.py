"""kubectl, as a user types it, for tests that look at the world from outside."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dev.cluster import external
from pilothouse.api.names import LABEL_REVISION, command_annotation
from tests.support.waiting import until

Json = dict[str, Any]


class RefusedError(Exception):
    """kubectl ended with an error; the message is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with a cluster and a namespace."""

    kubeconfig: Path
    namespace: str = "default"

    def within(self, namespace: str) -> Kubectl:
        return replace(self, namespace=namespace)

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl and return what it prints.

        Raises:
            RefusedError: it failed.
        """
        done = subprocess.run(
            [external.kubectl(), "--namespace", self.namespace, *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise RefusedError(done.stderr.strip())
        return done.stdout

    def apply(self, *objects: Json, server_side: bool = False) -> None:
        """Apply objects, client-side as most people do, or server-side, as large ones need it."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self("apply", f"--server-side={str(server_side).lower()}", "--filename", "-", stdin=text)

    def get(self, kind: str, name: str) -> Json | None:
        """Return an object, or None where there is none."""
        text = self("get", kind, name, "--ignore-not-found", "--output", "json")
        return dict(json.loads(text)) if text.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Json]:
        text = self("get", kind, "--selector", selector, "--output", "json")
        return list(json.loads(text)["items"])

    # ModelDeployments.

    def status(self, name: str) -> Json:
        """Return the status of a ModelDeployment, empty where there is none."""
        return dict((self.get("mdep", name) or {}).get("status", {}))

    def conditions(self, name: str) -> dict[str, Json]:
        """Return the conditions of a ModelDeployment by type, only if they speak of its present generation."""
        body = self.get("mdep", name) or {}
        status = body.get("status", {})
        if status.get("observedGeneration") != body.get("metadata", {}).get("generation"):
            return {}
        return {c["type"]: c for c in status.get("conditions", ())}

    def reason_stalled(self, name: str) -> str:
        """Return the reason of Stalled while it is true, else an empty text."""
        stalled = self.conditions(name).get("Stalled", {})
        return str(stalled.get("reason", "")) if stalled.get("status") == "True" else ""

    def ready(self, name: str) -> bool:
        return bool(self.conditions(name).get("Ready", {}).get("status") == "True")

    def wait_ready(self, name: str, *, seconds: float = 300) -> Json:
        """Wait until a ModelDeployment is Ready and return its status."""
        until(lambda: self.ready(name), seconds=seconds, what=lambda: f"{name} is Ready: {self.status(name)}")
        return self.status(name)

    def wait_stalled(self, name: str, *, seconds: float = 300) -> Json:
        """Wait until a ModelDeployment is Stalled and return that condition."""
        until(
            lambda: self.reason_stalled(name),
            seconds=seconds,
            what=lambda: f"{name} is Stalled: {self.status(name)}",
        )
        return self.conditions(name)["Stalled"]

    def pods(self, revision: str) -> set[str]:
        """Return the uids of the pods of a revision that are not on their way out."""
        pods = self.list("pods", f"{LABEL_REVISION}={revision}")
        return {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}

    def wait_gone(self, revision: str, *, seconds: float = 180) -> None:
        """Wait until the pods of a revision are gone, or on their way out."""
        until(lambda: not self.pods(revision), seconds=seconds, what=lambda: self("get", "pods"))

    def wait_for_reason(self, name: str, reason: str, *, seconds: float = 240) -> Json:
        """Wait until Ready is False for this reason, of the present generation, and return the status."""

        def so() -> bool:
            ready = self.conditions(name).get("Ready", {})
            return bool(ready.get("status") == "False" and ready.get("reason") == reason)

        until(so, seconds=seconds, what=lambda: f"{name} is {reason}: {self.status(name)}")
        return self.status(name)

    def revision(self, name: str, revision: str) -> Json:
        """Return what the status of a ModelDeployment says of one revision."""
        return next(dict(e) for e in self.status(name)["revisions"] if e["name"] == revision)

    def command(self, name: str, command: str, value: str) -> None:
        """Give a command by annotation."""
        self("annotate", "--overwrite", "mdep", name, f"{command_annotation(command)}={value}")
