"""Process 1 of a cluster's PID namespace: starts components, reaps orphans, answers on a Unix socket.

Run as a script by `unshare`, with the standard library only: `python supervisor.py DIRECTORY`. When it dies the kernel
kills every process of the namespace, so a cluster can never outlive its supervisor in part.

Protocol: one connection is one request. A request is one line of JSON, the answer is one line of JSON.
    {"do": "start", "name": "etcd", "argv": [...], "path": "/usr/bin:..."}    {"pid": 7}
    {"do": "signal", "name": "etcd", "signal": 9}                            {}
    {"do": "list"}                                                           {"etcd": {"pid": 7, "exit": null}}
`exit` is null while the component runs, else its exit status (negative: the signal that ended it).
Anything that cannot be done is answered with {"error": "..."}.
"""

import json
import os
import selectors
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

_REQUEST_LIMIT = 65536


class Supervisor:
    """The components by name, each with its process id and, once it has ended, its exit status."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._pids: dict[str, int] = {}
        self._exits: dict[str, int | None] = {}

    def reap(self) -> None:
        """Collect every child that has ended, orphans that the kernel handed to process 1 included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name, known in self._pids.items():
                if known == pid:
                    self._exits[name] = os.waitstatus_to_exitcode(status)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request says.

        Raises:
            KeyError, ValueError, OSError: the request is malformed or cannot be done.
        """
        match request["do"]:
            case "start":
                return {"pid": self._start(request["name"], request["argv"], request["path"])}
            case "signal":
                name = request["name"]
                if self._exits[name] is None:
                    os.kill(self._pids[name], request["signal"])
                return {}
            case "list":
                return {name: {"pid": pid, "exit": self._exits[name]} for name, pid in self._pids.items()}
            case other:
                raise ValueError(f"unknown request {other!r}")

    def _start(self, name: str, argv: list[str], path: str) -> int:
        if name in self._pids and self._exits[name] is None:
            return self._pids[name]
        program = shutil.which(argv[0], path=path)
        if program is None:
            raise FileNotFoundError(f"{argv[0]} is not in {path}")
        log = str(self._logs / f"{name}.log")
        # The environment is made anew: proxies and credentials of whoever ran `up` are no business of the cluster's.
        environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
        pid = os.posix_spawn(
            program,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._pids[name] = pid
        self._exits[name] = None
        return pid


def serve(directory: Path) -> None:
    """Answer requests, and reap between them, until killed."""
    supervisor = Supervisor(directory / "logs")
    wake_reader, wake_writer = socket.socketpair()
    wake_reader.setblocking(False)
    wake_writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake_writer.fileno())
    listener = socket.socket(socket.AF_UNIX)
    # Bound under another name and then renamed: whoever sees the socket can connect to it.
    unready = directory / "supervisor.unready"
    unready.unlink(missing_ok=True)
    listener.bind(str(unready))
    listener.listen()
    unready.rename(directory / "supervisor.sock")
    with selectors.DefaultSelector() as selector:
        selector.register(wake_reader, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake_reader:
                    wake_reader.recv(4096)
                else:
                    _converse(listener, supervisor)
            supervisor.reap()


def _converse(listener: socket.socket, supervisor: Supervisor) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        try:
            with connection.makefile("rb") as lines:
                request = json.loads(lines.readline(_REQUEST_LIMIT))
            supervisor.reap()
            answer = supervisor.answer(request)
        except (KeyError, ValueError, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as error:  # the asker went away: no reason for a whole cluster to die
            print(f"answer not delivered: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
