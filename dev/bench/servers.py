"""Starts a server that is to be measured, asks it until it answers right, and stops all of it.

Servers start further processes, some in sessions of their own (Ray does). All inherit a variable with a random value,
which is how they are found again.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dev.bench.bodies import Form
from dev.bench.checks import Questions, WrongAnswerError
from dev.bench.limits import pss
from dev.shell import ROOT

_MARK: Final = "PILOTHOUSE_BENCH_RUN"


class ServerFailedError(Exception):
    """A server did not come up, or answers wrong; the message holds the last lines of its log."""


@dataclass(frozen=True)
class Setting:
    """One way to run one server.

    In `argv` and in the values of `env`, {port} stands for the port to listen on, {port2} and {port3} for more that are
    free, and {scratch} for a folder of its own.

    Attributes:
        subject: whose server it is, as tables name it.
        label: what is special about this way, as tables name it.
        path: where requests go.
        form: how tensors are sent.
        quick: whether it is tried when there is little time.
    """

    subject: str
    label: str
    argv: Sequence[str]
    path: str
    form: Form
    env: Mapping[str, str] = field(default_factory=dict)
    quick: bool = True

    @property
    def name(self) -> str:
        """Subject and label in one."""
        return f"{self.subject} ({self.label})"


@dataclass(frozen=True)
class Running:
    """A server that has answered right.

    Attributes:
        seconds: from the start of its first process to the first right answer.
        at_first: bytes of memory (`memory`) after that answer.
    """

    port: int
    mark: str
    seconds: float
    at_first: int

    def memory(self) -> int:
        """Return the proportional set size of all its processes, in bytes."""
        return _memory(self.mark)


@contextmanager
def running(
    setting: Setting, questions: Questions, scratch: Path, patience: float = 120
) -> Iterator[Running]:
    """Run a server in a context; everything that it started is gone after it.

    Args:
        questions: what it is asked until it answers right.
        scratch: a folder for its log and files.
        patience: seconds to wait for the first right answer.

    Raises:
        ServerFailedError: it ended, answered wrong, or did not answer in time.
    """
    port, second, third = free_ports(3)
    mark = secrets.token_hex(8)
    scratch.mkdir(parents=True, exist_ok=True)

    def fill(text: str) -> str:
        text = text.replace("{port2}", str(second)).replace("{port3}", str(third))
        return text.replace("{port}", str(port)).replace("{scratch}", str(scratch))

    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **{name: fill(value) for name, value in setting.env.items()},
    }
    env[_MARK] = mark
    log = scratch / "log"
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [fill(word) for word in setting.argv],
            env=env,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, setting, questions, port, began + patience, log)
        seconds = time.monotonic() - began
        yield Running(port, mark, seconds, _memory(mark))
    finally:
        _stop(process, mark)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _wait(
    process: subprocess.Popen[bytes],
    setting: Setting,
    questions: Questions,
    port: int,
    deadline: float,
    log: Path,
) -> None:
    why = "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailedError(f"{setting.name} ended with {process.returncode}:\n{tail(log)}")
        try:
            questions.ask_one(port, setting.path, setting.form)
        except (OSError, WrongAnswerError) as error:
            why = str(error)
            time.sleep(0.02)
        else:
            return
    raise ServerFailedError(f"{setting.name} gave no right answer in time ({why}):\n{tail(log)}")


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes], mark: str) -> None:
    """End the process group politely, then whatever is left of it or bears the mark."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and (process.poll() is None or _marked(mark)):
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for _ in range(20):  # one that is just being born is found in the next round
        left = _marked(mark)
        if not left:
            break
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    process.wait()


def _marked(mark: str) -> list[int]:
    """Return the processes that have inherited a mark and are no zombies."""
    sought = f"{_MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if sought in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def _memory(mark: str) -> int:
    return sum(_pss(pid) for pid in _marked(mark))


def _pss(pid: int) -> int:
    with suppress(OSError):
        return pss(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return 0
