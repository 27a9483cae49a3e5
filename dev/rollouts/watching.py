"""Watches a rollout from outside, with kubectl: the ModelDeployment, its pods, and a client's answers."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dev.rollouts.recording import Answers, Line, Model, Pod, write

Json = dict[str, Any]
_REVISION = "pilothouse.dev/revision"


class Recorder:
    """Writes down what is seen, as it is seen; threads may do so at once."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lines: list[Line] = []
        self._last: dict[str, Line] = {}
        self._tally: tuple[Counter[str], int] | None = None
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return how many seconds have been recorded."""
        return round(time.monotonic() - self._began, 1)

    def note(self, line: Line) -> None:
        with self._lock:
            self._lines.append(line)

    def model(self, body: Json) -> None:
        """Note the status of a ModelDeployment, where it says something else than before."""
        status = body.get("status", {})
        rollout = status.get("rollout", {})
        line = Model(
            at=0,
            revision=rollout.get("revision", ""),
            phase=rollout.get("phase", ""),
            step=rollout.get("step"),
            steps=rollout.get("steps"),
            weight=rollout.get("weight"),
            weight_reached=rollout.get("weightReached"),
            reason=rollout.get("reason", ""),
            message=rollout.get("message", ""),
            versions={entry["name"]: entry.get("version", "") for entry in status.get("revisions", ())},
        )
        self._changed("", line)

    def pod(self, body: Json, kind: str) -> None:
        """Note whether a pod is ready, where that has changed; one that is told to stop gets no new connections.

        One that was stopping already when it was first seen belongs to what was there before.
        """
        metadata = body["metadata"]
        conditions = {c["type"]: c["status"] for c in body.get("status", {}).get("conditions", ())}
        stopping = kind == "DELETED" or "deletionTimestamp" in metadata
        if stopping and metadata["name"] not in self._last:
            return
        ready = conditions.get("Ready") == "True" and not stopping
        self._changed(metadata["name"], Pod(0, metadata["name"], metadata["labels"][_REVISION], ready))

    def answers(self, tally: Json) -> None:
        """Note what a client was answered since its last tally; the first is where counting begins."""
        counts = Counter({version: numbers["rows"] for version, numbers in tally["versions"].items()})
        before, self._tally = self._tally, (counts, int(tally["failed"]))
        if before is not None:
            self.note(Answers(self.now(), dict(counts - before[0]), tally["failed"] - before[1]))

    def write(self, path: Path) -> None:
        """Write all that was noted, in the order of time."""
        with self._lock:
            write(sorted(self._lines, key=lambda line: line.at), path)

    def _changed(self, what: str, line: Model | Pod) -> None:
        with self._lock:
            if self._last.get(what) != line:
                self._last[what] = line
                self._lines.append(type(line)(**{**vars(line), "at": self.now()}))


class Follower:
    """Runs a command that goes on printing lines of JSON, and hands each to `take`, until stopped."""

    def __init__(self, argv: Sequence[str], take: Callable[[Json], None]) -> None:
        self._take = take
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()

    def _follow(self) -> None:
        for text in self._process.stdout or ():
            if text.startswith("{"):
                self._take(json.loads(text))
