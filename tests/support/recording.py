"""Every status that a ModelDeployment had, in order, as a watcher saw it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import Self

from dev.cluster import external
from pilothouse.api.status import ModelDeploymentStatus
from tests.support.kubectl import Json, Kubectl


class Recording:
    """Records the versions of one ModelDeployment for as long as the block runs."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.bodies: list[Json] = []
        argv = [external.kubectl(), "-n", kubectl.namespace, "get", "mdep", name, "--watch", "-o", "json"]
        environment = {**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)}
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        text = ""
        for line in stream:
            # kubectl prints one indented object after the other.
            text += line
            if line == "}\n":
                self.bodies.append(json.loads(text))
                text = ""
        stream.close()

    def check_told_the_truth(self) -> None:
        """Check what must be true of every status ever written, and of the order that they came in.

        Raises:
            AssertionError: one told something else.
        """
        assert self.bodies
        generation = 0
        for body in self.bodies:
            status = body["status"]
            ModelDeploymentStatus.model_validate_json(json.dumps(status))
            assert status["observedGeneration"] >= generation, "observedGeneration went back"
            generation = status["observedGeneration"]
            conditions = {c["type"]: c for c in status["conditions"]}
            if generation == 0:
                assert conditions["Ready"]["status"] == "Unknown", "the operator has not seen it yet"
                continue
            assert all(c["observedGeneration"] == generation for c in conditions.values())
            ready = conditions["Ready"]["status"] == "True"
            assert ready is not bool({"Reconciling", "Stalled"} & conditions.keys())
            if ready:
                assert status["stableRevision"] == status["targetRevision"]
                assert conditions["Available"]["status"] == "True"
