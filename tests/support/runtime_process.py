"""Real runtime processes on loopback ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime import contract
from pilothouse_runtime.contract import LastWords, ValidationReport

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 120.0  # seconds; for a machine that is busy, not for one that is well


class RuntimeProcess:
    """One server process, its log lines, and what it leaves behind.

    Args:
        python: the interpreter, where it is not this one. Its packages may write lines of their own to the log.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], python: Path | None = None) -> None:
        self.folder = folder
        self.termination_log = folder / "termination-log"
        self.lines: list[dict[str, Any]] = []
        self.port = 0
        self.grpc_port = 0
        self._foreign = python is not None
        self._listening: queue.Queue[tuple[int, int]] = queue.Queue()
        places = {
            "termination-log": self.termination_log,
            "cache-dir": folder / "cache",
            "pvc-mount": folder / "pvc",
            "model-mount": folder / "model",
            "drift-mount": folder / "drift",
        }
        self.process = subprocess.Popen(
            [
                str(python or sys.executable),
                "-m",
                "pilothouse_runtime",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--grpc-port",
                "0",
            ]
            + [word for name, path in places.items() for word in (f"--{name}", str(path))],
            # One thread: several servers at once on a small machine would spend their time waiting for theirs.
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "runtime"), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if self._foreign and not line.startswith("{"):
                continue
            record = json.loads(line)  # every line the runtime writes is JSON
            self.lines.append(record)
            if record["msg"] == "listening":
                self._listening.put((record["port"], record["grpc_port"]))

    def wait_listening(self) -> None:
        """Wait until the port is known and connections are taken."""
        self.port, self.grpc_port = self._listening.get(timeout=PATIENCE)

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self, patience: float = PATIENCE) -> None:
        """Wait until the server takes requests; fail with its last words if it ends first."""
        self.wait_listening()
        eventually(lambda: self.get(contract.READY_PATH)[0] == 200 or self._ended(), "ready", patience)
        assert self.process.poll() is None, self.lines

    def _ended(self) -> bool:
        return self.process.poll() is not None

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of a GET; (0, {}) where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError:
            return 0, {}
        finally:
            connection.close()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout=patience)
        self._reader.join(timeout=PATIENCE)
        return code

    def last_words(self) -> LastWords | None:
        """Return what the process wrote to its termination log, if anything."""
        return LastWords.decode(self.termination_log.read_text()) if self.termination_log.exists() else None


@contextlib.contextmanager
def runtime(
    folder: Path, uri: str, python: Path | None = None, **environment: str
) -> Iterator[RuntimeProcess]:
    """Run a server for `uri` until the block ends.

    Args:
        folder: for its cache, its claim (pvc/), what was fetched (model/, drift/) and its termination log.
        python: the interpreter, where it is not this one.
        environment: variables of `contract` without their prefix, such as MODEL_DIGEST.
    """
    named = {contract.ENV_PREFIX + name: value for name, value in environment.items()}
    # No endpoints have to follow when it ends; tests of draining say how long it takes requests then.
    given = {contract.ENV_MODEL_NAME: "tiny", contract.ENV_MODEL_URI: uri, contract.ENV_DRAIN_DELAY: "0"}
    process = RuntimeProcess(folder, given | named, python)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.wait()
        assert process.process.stderr is not None
        process.process.stderr.close()


@dataclass(frozen=True)
class Validation:
    """How a validation ended: exit code, what is in its termination log, and its log lines."""

    code: int
    report: ValidationReport | None
    words: LastWords | None
    lines: list[dict[str, Any]]


def start_validation(folder: Path, data: str, url: str, **environment: str) -> subprocess.Popen[str]:
    """Start the validation program for the model `tiny`; `validated` waits for it.

    Args:
        folder: for its cache, its claim (pvc/) and its termination log.
        data: uri of the data set.
        url: where the revision answers.
        environment: variables of `contract` without their prefix, such as VALIDATION_METRIC, which is accuracy.
    """
    places = {"termination-log": "validation-log", "cache-dir": "validation-cache", "pvc-mount": "pvc"}
    given = {
        "MODEL_NAME": "tiny",
        "VALIDATION_METRIC": "accuracy",
        "VALIDATION_URI": data,
        "VALIDATION_URL": url,
        **environment,
    }
    _, *module = contract.VALIDATION_COMMAND
    return subprocess.Popen(
        [sys.executable, *module]
        + [word for name, path in places.items() for word in (f"--{name}", str(folder / path))],
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
        | {contract.ENV_PREFIX + name: value for name, value in given.items()},
        stderr=subprocess.PIPE,
        text=True,
    )


def validated(folder: Path, program: subprocess.Popen[str]) -> Validation:
    """Wait for the end of a validation started in `folder`."""
    try:
        _, told = program.communicate(timeout=PATIENCE)
    finally:
        program.kill()
    log = folder / "validation-log"
    text = log.read_text() if log.exists() else ""
    lines = [json.loads(line) for line in told.splitlines()]  # every line it writes is JSON
    return Validation(program.returncode, ValidationReport.decode(text), LastWords.decode(text), lines)


def validate(folder: Path, data: str, url: str, **environment: str) -> Validation:
    """Run the validation program to its end; arguments as for `start_validation`."""
    return validated(folder, start_validation(folder, data, url, **environment))


def eventually(condition: Any, what: str, patience: float = PATIENCE) -> None:
    """Wait until `condition()` is true; fail naming `what` when that takes too long."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not {what} after {patience:g} s"
        time.sleep(0.05)
