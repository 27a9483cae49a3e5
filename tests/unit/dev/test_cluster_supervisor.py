"""The supervisor of an embedded cluster, run as an ordinary process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dev.cluster import supervisor
from tests.support.waiting import until

PATH = "/usr/bin:/bin"
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: the path of a Unix socket has to be short.
    with TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def ask(directory: Path) -> Iterator[Ask]:
    (directory / "logs").mkdir()
    with subprocess.Popen([sys.executable, "-I", supervisor.__file__, str(directory)]) as process:
        path = directory / "supervisor.sock"
        until(path.exists)

        def asked(**request: object) -> dict[str, Any]:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as lines:
                    answer: dict[str, Any] = json.loads(lines.readline())
                    return answer

        yield asked
        for name in asked(do="list"):
            asked(do="signal", name=name, signal=int(signal.SIGKILL))
        until(lambda: all(entry["exit"] is not None for entry in asked(do="list").values()))
        process.kill()


def _exit(ask: Ask, name: str) -> int | None:
    status: int | None = ask(do="list")[name]["exit"]
    return status


def test_a_component_runs_until_it_is_killed_and_can_be_started_again(ask: Ask) -> None:
    first = ask(do="start", name="sleeper", argv=["sleep", "600"], path=PATH)["pid"]
    assert ask(do="list") == {"sleeper": {"pid": first, "exit": None}}
    assert ask(do="start", name="sleeper", argv=["sleep", "600"], path=PATH) == {"pid": first}
    ask(do="signal", name="sleeper", signal=int(signal.SIGKILL))
    until(lambda: _exit(ask, "sleeper") == -signal.SIGKILL)
    second = ask(do="start", name="sleeper", argv=["sleep", "600"], path=PATH)["pid"]
    assert second != first
    assert _exit(ask, "sleeper") is None


def test_a_component_s_output_and_exit_status_are_kept(ask: Ask, directory: Path) -> None:
    script = "echo out; echo error >&2; exit 3"
    ask(do="start", name="talker", argv=["sh", "-c", script], path=PATH)
    until(lambda: _exit(ask, "talker") == 3)
    assert (directory / "logs" / "talker.log").read_text() == "out\nerror\n"


def test_the_environment_of_the_starter_is_not_passed_on(ask: Ask, directory: Path) -> None:
    ask(do="start", name="env", argv=["env"], path=PATH)
    until(lambda: _exit(ask, "env") == 0)
    names = {line.partition("=")[0] for line in (directory / "logs" / "env.log").read_text().splitlines()}
    assert names == {"PATH", "HOME", "LANG"}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            {"do": "start", "name": "x", "argv": ["no-such-program"], "path": PATH},
            "no-such-program is not in",
        ),
        ({"do": "dance"}, "unknown request 'dance'"),
        ({"do": "signal", "name": "nobody", "signal": 9}, "nobody"),
        ({"do": "start"}, "name"),
    ],
)
def test_what_cannot_be_done_is_said_and_harms_nothing(ask: Ask, request_: dict[str, Any], said: str) -> None:
    assert said in ask(**request_)["error"]
    assert ask(do="list") == {}
